"""Viewers of rooms: one on each, from its beginning; they know when each event's frame had come.

Invariant: a viewer that got an event twice, early or not at all ends the run with an ``AssertionError``.
"""

import asyncio
import time
from collections.abc import Callable, Iterable
from typing import cast

from bench.load.http import get
from bench.viewers.sse import StreamError, join_chunks, read_events

_HEAD_END = b"\r\n\r\n"
_IN_PLACE = b"event: caught-up\n"
_PATIENCE_SECONDS = 30.0


class Audience:
    def __init__(self, port: int, rooms: Iterable[str], workspace_id: str) -> None:
        self._port = port
        self._viewers = {
            room: Viewer(get(f"/v1/streams/rooms/{room}", workspace_id), self._fail) for room in dict.fromkeys(rooms)
        }
        self._failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def sit_down(self) -> None:
        """Connects everybody; they have caught up when it returns."""
        loop = asyncio.get_running_loop()
        for viewer in self._viewers.values():
            await loop.create_connection(lambda viewer=viewer: viewer, "127.0.0.1", self._port)
        for viewer in self._viewers.values():
            await self._until(viewer.in_place)

    async def saw(self, room: str, stream_seq: int) -> float:
        """When the frame came (``time.perf_counter``); waits for it."""
        return await self._until(self._viewers[room].came(stream_seq))

    def leave(self) -> None:
        for viewer in self._viewers.values():
            viewer.leave()

    async def _until(self, future: "asyncio.Future[float]") -> float:
        done, _ = await asyncio.wait(
            (future, self._failed), timeout=_PATIENCE_SECONDS, return_when=asyncio.FIRST_COMPLETED
        )
        assert done, "a viewer has not got what was committed"
        if self._failed in done:
            self._failed.result()
        return future.result()

    def _fail(self, fault: str) -> None:
        if not self._failed.done():
            self._failed.set_exception(AssertionError(fault))


class Viewer(asyncio.Protocol):
    def __init__(self, request: bytes, fail: Callable[[str], None]) -> None:
        self.in_place: asyncio.Future[float] = asyncio.get_running_loop().create_future()
        self._request = request
        self._fail = fail
        self._transport: asyncio.Transport | None = None
        self._has_left = False
        self._is_open = False
        self._received = b""
        self._text = b""
        self._at = 0
        self._came: dict[int, asyncio.Future[float]] = {}

    def came(self, stream_seq: int) -> "asyncio.Future[float]":
        """When the frame of the position came. Asked for once for each, before or after."""
        return self._came.pop(stream_seq, None) or self._expect(stream_seq)

    def leave(self) -> None:
        self._has_left = True
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._transport.write(self._request)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._has_left:
            self._fail(f"a viewer was cut off: {exc or 'closed by the service'}")

    def data_received(self, data: bytes) -> None:
        now = time.perf_counter()
        self._received += data
        if not self._is_open:
            head, found, body = self._received.partition(_HEAD_END)
            if not found:
                return
            if not head.startswith(b"HTTP/1.1 200 "):
                self._fail(f"a viewer was answered {head[:100]!r}")
            self._is_open, self._received = True, body
        try:
            text, self._received = join_chunks(self._received)
            first, last, others, self._text = read_events(self._text + text)
        except (StreamError, ValueError) as error:
            self._fail(f"a viewer at {self._at}: {error}")
            return
        for stream_seq in range(first, last + 1) if last else ():
            self._take(stream_seq, now)
        if _IN_PLACE in others and not self.in_place.done():
            self.in_place.set_result(now)

    def _take(self, stream_seq: int, now: float) -> None:
        if stream_seq != self._at + 1:
            self._fail(f"a viewer at {self._at} got event {stream_seq}")
        self._at = stream_seq
        (self._came.pop(stream_seq, None) or self._expect(stream_seq)).set_result(now)

    def _expect(self, stream_seq: int) -> "asyncio.Future[float]":
        future = self._came[stream_seq] = asyncio.get_running_loop().create_future()
        return future
