"""A client of HTTP/2 that asks for more than httpx would, and takes of answers what the test has it take."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import ConnectionTerminated, Event, ResponseReceived, StreamEnded, StreamReset
from h2.settings import SettingCodes

from tests.support.edge import Edge

_PIECE = 16 * 1024
"""What every server takes as one frame."""


class Http2Client:
    """One connection, whose heads use the table of fields that were sent before."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, window: int) -> None:
        self._reader, self._writer = reader, writer
        self._http = H2Connection(H2Configuration())
        self._http.initiate_connection()
        self._http.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: window})
        self.asked: set[int] = set()
        self.answered: dict[int, str] = {}
        """The status of each stream that has one."""
        self.ended: set[int] = set()
        """Streams whose answer has come whole."""
        self.cut: set[int] = set()
        """Streams that the server has reset, without an answer or in the midst of it."""
        self.is_closed = False
        self._changed = asyncio.Condition()
        self._listening = asyncio.create_task(self._listen())

    def ask(self, method: str, path: str, fields: Iterable[tuple[str, str]] = (), *, ends: bool = True) -> int:
        """Begins a stream. Nothing is sent before ``flush``."""
        stream = self._http.get_next_available_stream_id()
        head = [(":method", method), (":scheme", "https"), (":authority", "localhost"), (":path", path), *fields]
        self._http.send_headers(stream, head, end_stream=ends)
        self.asked.add(stream)
        return stream

    async def send(self, stream: int, body: bytes) -> int:
        """So much of a body as the server has asked for by now."""
        most = min(self._http.local_flow_control_window(stream), len(body))
        for at in range(0, most, _PIECE):
            self._http.send_data(stream, body[at : min(at + _PIECE, most)])
        await self.flush()
        return most

    async def flush(self) -> None:
        with suppress(OSError):
            self._writer.write(self._http.data_to_send())
            await self._writer.drain()

    async def settled(self) -> None:
        """Until each stream has an answer or is reset, or the connection is closed."""
        # Heads alone stay with the server until it has something to send at once.
        self._http.ping(bytes(8))
        await self.flush()
        async with self._changed:
            await self._changed.wait_for(lambda: self.is_closed or self.asked <= self._over())

    async def close(self) -> None:
        self._listening.cancel()
        self._writer.close()
        with suppress(OSError):
            await self._writer.wait_closed()

    def _over(self) -> set[int]:
        return self.cut | self.answered.keys()

    async def _listen(self) -> None:
        with suppress(OSError):
            while not self.is_closed and (received := await self._reader.read(64 * 1024)):
                for event in self._http.receive_data(received):
                    self._note(event)
                await self.flush()
                await self._tell()
        self.is_closed = True
        await self._tell()

    def _note(self, event: Event) -> None:
        match event:
            case ResponseReceived(stream_id=stream, headers=headers):
                self.answered[stream] = dict(headers)[b":status"].decode()
            case StreamEnded(stream_id=stream):
                self.ended.add(stream)
            case StreamReset(stream_id=stream):
                self.cut.add(stream)
            case ConnectionTerminated():
                self.is_closed = True
            case _:
                pass

    async def _tell(self) -> None:
        async with self._changed:
            self._changed.notify_all()


@asynccontextmanager
async def http2_client(edge: Edge, *, window: int = 65_535) -> AsyncIterator[Http2Client]:
    """A client of the edge that takes this much of each answer."""
    context = edge.certificates.client()
    context.set_alpn_protocols(["h2"])
    reader, writer = await asyncio.open_connection("localhost", edge.port, ssl=context)
    client = Http2Client(reader, writer, window=window)
    await client.flush()
    try:
        yield client
    finally:
        await client.close()
