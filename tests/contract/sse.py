"""A reader of room streams that hides nothing: every line is kept as the service sent it.

Libraries for server-sent events drop comments, `retry:` and the difference between an unnamed frame and one named
`message`. All of these are part of the contract, so this reader works on raw bytes and splits at line feeds alone:
`str.splitlines` would also cut an envelope at U+2028.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx

DEADLINE = 20.0
"""Seconds any single wait may take before the test fails; far beyond what a healthy deployment needs."""


@dataclass(frozen=True)
class Event:
    """One unnamed frame: the position on its id line, the data line as sent, and the decoded envelope."""

    seq: int
    line: str
    envelope: dict[str, Any]

    @property
    def type(self) -> str:
        return self.envelope["event_type"]

    @property
    def event_id(self) -> str:
        return self.envelope["event_id"]

    @property
    def run_id(self) -> str:
        return self.envelope["run_id"]


@dataclass(frozen=True)
class Control:
    """One named frame: `caught-up`, `reset` or `busy`, and its decoded data."""

    name: str
    data: dict[str, Any]


@dataclass(frozen=True)
class Comment:
    """One comment line, the heartbeat of an idle stream."""

    text: str


class StreamEndedError(Exception):
    """The service closed the stream."""


class RoomStream:
    """One open room stream. Every wait is bounded by `DEADLINE`."""

    def __init__(self, response: httpx.Response) -> None:
        self.response = response
        self.lines: list[str] = []
        """Every line received so far, blank ones too."""
        self._chunks = response.aiter_raw()
        self._buffer = b""
        self._ready: list[str] = []

    async def line(self) -> str:
        """Return the next raw line without its line feed. Raises `StreamEndedError`."""
        while not self._ready:
            try:
                chunk = await anext(self._chunks)
            except StopAsyncIteration:
                raise StreamEndedError from None
            *whole, self._buffer = (self._buffer + chunk).split(b"\n")
            self._ready = [text.decode("utf-8") for text in whole]
        text = self._ready.pop(0)
        self.lines.append(text)
        return text

    async def item(self) -> Event | Control | Comment:
        """Return the next frame or comment; `retry:` lines are only recorded."""
        async with asyncio.timeout(DEADLINE):
            frame: list[str] = []
            while True:
                text = await self.line()
                if text.startswith(":"):
                    return Comment(text[1:].strip())
                if text.startswith("retry:"):
                    continue
                if text:
                    frame.append(text)
                elif frame:
                    return decode(frame)

    async def frame(self) -> Event | Control:
        """Return the next frame, whatever it is; comments do not put off the deadline."""
        async with asyncio.timeout(DEADLINE):
            while isinstance(item := await self.item(), Comment):
                pass
        return item

    async def control(self) -> Control:
        """Return the next frame, which must be a named one."""
        frame = await self.frame()
        assert isinstance(frame, Control), f"an event where a control frame was due: {frame}"
        return frame

    async def event(self) -> Event:
        """Return the next event; `caught-up` may come before it, no other control frame may."""
        while isinstance(frame := await self.frame(), Control):
            assert frame.name == "caught-up", f"unexpected control frame {frame}"
        return frame

    async def events(self, count: int) -> list[Event]:
        """Return the next `count` events."""
        return [await self.event() for _ in range(count)]

    async def until(self, seq: int) -> list[Event]:
        """Return the next events up to and including position `seq`."""
        events: list[Event] = []
        while not events or events[-1].seq < seq:
            events.append(await self.event())
        return events

    async def caught_up(self) -> tuple[list[Event], int]:
        """Return the history, which is every event before `caught-up`, and the position `caught-up` names."""
        history: list[Event] = []
        while isinstance(frame := await self.frame(), Event):
            history.append(frame)
        assert frame.name == "caught-up", f"unexpected control frame {frame}"
        assert frame.data.keys() == {"stream_seq"}
        return history, frame.data["stream_seq"]

    async def close(self) -> None:
        if isinstance(self._chunks, AsyncGenerator):
            await self._chunks.aclose()
        await self.response.aclose()


def decode(frame: list[str]) -> Event | Control:
    """Decode the lines of one frame: exactly `id` and `data`, or exactly `event` and `data`."""
    assert len(frame) == 2, f"a frame has two lines: {frame}"
    first, data = frame
    assert data.startswith("data: "), f"the second line of a frame is its data: {frame}"
    body = json.loads(data.removeprefix("data: "))
    if first.startswith("event: "):
        return Control(first.removeprefix("event: "), body)
    assert first.startswith("id: "), f"an event frame begins with its id: {frame}"
    position = first.removeprefix("id: ")
    assert position == str(int(position)), f"an id is a plain number: {frame}"
    return Event(int(position), data.removeprefix("data: "), body)


def encoded(headers: Mapping[str, str | bytes]) -> list[tuple[bytes, bytes]]:
    """Return headers as they go over the wire, whose values need not be text."""
    return [(name.encode(), value.encode() if isinstance(value, str) else value) for name, value in headers.items()]


@asynccontextmanager
async def open_stream(
    http: httpx.AsyncClient, url: str, params: Mapping[str, str], headers: Mapping[str, str | bytes]
) -> AsyncIterator[RoomStream]:
    """Open a stream whatever its status; the caller reads `response` to judge it."""
    request = http.build_request(
        "GET", url, params=params, headers=encoded(headers), timeout=httpx.Timeout(DEADLINE, read=None)
    )
    async with asyncio.timeout(DEADLINE):
        response = await http.send(request, stream=True)
    stream = RoomStream(response)
    try:
        yield stream
    finally:
        await stream.close()
