"""The streams open now: one clock for all of them, and their end when the service stops.

Invariant: every stream beats, busy or not, and none outlives a client that reads nothing. A stream
has no timer of its own for either: thousands of them would cost more than the frames.
"""

import asyncio
import time
from typing import Final, Protocol

import structlog

from services.query.metrics import FRAMES_SENT, STREAMS_LIMIT, STREAMS_OPEN
from services.query.settings import FeedSettings
from shared.telemetry import Logger

_TICK_SECONDS: Final = 0.25
_AT_ONCE: Final = 256
_MOST_PAUSE: Final = 0.1

_log: Logger = structlog.get_logger("feed")


class OpenStream(Protocol):
    def tick(self, now: float, wall_time: float) -> bool:
        """Called some times a second; whether there was anything to do.

        ``now`` is the loop's time, ``wall_time`` in seconds of the epoch.
        """
        ...

    def end(self) -> None: ...


class Streams:
    """``frames_sent`` counts between two ticks of the clock."""

    def __init__(self, settings: FeedSettings) -> None:
        self.settings = settings
        self.is_draining = False
        self.frames_sent = 0
        self._open: set[OpenStream] = set()
        STREAMS_OPEN.set_function(lambda: len(self._open))
        STREAMS_LIMIT.set(settings.stream_limit_process)

    def add(self, stream: OpenStream) -> None:
        self._open.add(stream)

    def remove(self, stream: OpenStream) -> None:
        self._open.discard(stream)

    async def run(self) -> None:
        """The clock, until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(_TICK_SECONDS)
            FRAMES_SENT.inc(self.frames_sent)
            self.frames_sent = 0
            busy = 0
            wall_time = time.time()
            for stream in list(self._open):
                busy += stream.tick(loop.time(), wall_time)
                if busy == _AT_ONCE:
                    busy = 0
                    await asyncio.sleep(0)

    async def drain(self) -> None:
        """Ends every stream, evenly over the grace period; a few need less of it."""
        self.is_draining = True
        streams = list(self._open)
        _log.info("draining", streams=len(streams))
        # A part of the grace is left for the last ones to get their end across.
        pause = min(_MOST_PAUSE, self.settings.shutdown_grace_seconds * 0.8 / max(1, len(streams)))
        loop = asyncio.get_running_loop()
        due = loop.time()
        for stream in streams:
            if due > loop.time():
                await asyncio.sleep(due - loop.time())
            stream.end()
            due += pause
