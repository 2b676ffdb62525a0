"""What the application's answer is written to, in place of the transport itself."""

import asyncio
from collections.abc import Callable
from typing import Any

from litestar.types import Message, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle


class Answer:
    """What an answer is written to. The connection is closed as it sees fit."""

    __slots__ = ("_close", "_transport")

    def __init__(self, transport: asyncio.Transport, close: Callable[[], None]) -> None:
        self._transport = transport
        self._close = close

    def write(self, data: bytes) -> None:
        self._transport.write(data)

    def is_closing(self) -> bool:
        return self._transport.is_closing()

    def close(self) -> None:
        self._close()


class HeadWithBody(Answer):
    """What an answer of a head and a body is written to: both go in one system call, which is 10 µs.

    The head may be kept until then: ASGI has it sent with the first of the body, not before.
    """

    __slots__ = ("_head",)

    def __init__(self, transport: asyncio.Transport, close: Callable[[], None]) -> None:
        super().__init__(transport, close)
        self._head: bytes | None = b""

    def write(self, data: bytes) -> None:
        head = self._head
        if head == b"":
            self._head = data
        elif head is None:
            self._transport.write(data)
        else:
            self._head = None
            self._transport.writelines((head, data))

    def close(self) -> None:
        head, self._head = self._head, None
        if head and not self._transport.is_closing():
            self._transport.write(head)
        super().close()


def ending_unless_asked(app: Any, cycle: RequestResponseCycle) -> Any:
    """The application, for a client that waits to be asked for its body. If it is not, nobody can tell whether the body
    or another request comes next, and the connection ends with the answer (RFC 9110, section 10.1.1)."""

    async def asked(scope: Scope, receive: Receive, send: Send) -> None:
        async def send_and_end(message: Message) -> None:
            if cycle.waiting_for_100_continue:
                cycle.keep_alive = False
            await send(message)

        await app(scope, receive, send_and_end)

    return asked
