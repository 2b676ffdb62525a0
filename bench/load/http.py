"""HTTP/1.1 as a load client speaks it: one request at a time on a connection that stays open.

It takes the answers of the services measured here, which have a Content-Length; it is no general client.
"""

import asyncio
from typing import cast

_END = b"\r\n\r\n"
_LENGTH = b"content-length: "


class Answer:
    __slots__ = ("body", "status")

    def __init__(self, status: int, body: bytes) -> None:
        self.status = status
        self.body = body


class Connection(asyncio.Protocol):
    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._received = b""
        self._waiting: asyncio.Future[Answer] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_exception(exc or ConnectionResetError("closed by the service"))

    def data_received(self, data: bytes) -> None:
        received = self._received = self._received + data if self._received else data
        end = received.find(_END)
        if end < 0:
            return
        at = received.lower().find(_LENGTH, 0, end)
        length = int(received[at + len(_LENGTH) : received.index(b"\r\n", at)])
        if len(received) < end + 4 + length:
            return
        self._received = b""
        if self._waiting is not None:
            self._waiting.set_result(Answer(int(received[9:12]), received[end + 4 :]))

    async def send(self, request: bytes) -> Answer:
        """Raises ``ConnectionError`` when the connection is gone."""
        if self._transport is None or self._transport.is_closing():
            raise ConnectionResetError("the connection is gone")
        self._waiting = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return await self._waiting

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()


async def connect(port: int) -> Connection:
    _, connection = await asyncio.get_running_loop().create_connection(Connection, "127.0.0.1", port)
    return connection


def post(path: str, workspace_id: str, body: bytes) -> bytes:
    head = (
        f"POST {path} HTTP/1.1\r\nhost: localhost\r\nx-workspace-id: {workspace_id}\r\n"
        f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def get(path: str, workspace_id: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nhost: localhost\r\nx-workspace-id: {workspace_id}\r\n\r\n".encode()


async def fetch(port: int, path: str, workspace_id: str = "bench") -> str:
    """The body of one answer. Raises ``AssertionError`` for anything but a 200."""
    connection = await connect(port)
    answer = await connection.send(get(path, workspace_id))
    connection.close()
    assert answer.status == 200, f"{path}: {answer.status} {answer.body[:200]!r}"
    return answer.body.decode()
