"""The rooms that are watched now.

Invariant: a room is subscribed to while it has a viewer, and not longer. A live message that was silently lost is found
out within one tick: the tails of all watched rooms are compared with the stream's at every tick and right after NATS is
back.
"""

import asyncio
from collections.abc import Generator
from contextlib import contextmanager, suppress
from typing import Final

import structlog

from services.query.feed.frame import StreamLimit
from services.query.feed.projected import ProjectedFeed, ProjectionAwayError
from services.query.feed.replay import Replay
from services.query.feed.room import Room
from services.query.feed.stored import MOST_TAILS, StoredFeed
from services.query.metrics import ROOMS_WATCHED
from services.query.settings import FeedSettings
from shared.contracts.ids import RoomKey
from shared.messaging.broker import Broker, BrokerUnavailableError
from shared.telemetry import Logger

_LOOKS_AT_ONCE: Final = 8
_CLOSE_SECONDS: Final = 2.0

_log: Logger = structlog.get_logger("feed")


class Hub:
    def __init__(
        self, broker: Broker, projected: ProjectedFeed, stored: StoredFeed, replay: Replay, settings: FeedSettings
    ) -> None:
        self.replay = replay
        self._broker = broker
        self._projected = projected
        self._stored = stored
        self._settings = settings
        self._rooms: dict[RoomKey, Room] = {}
        self._viewers = 0
        self._gate = asyncio.Semaphore(_LOOKS_AT_ONCE)
        self._check_now = asyncio.Event()
        self._closing: set[asyncio.Task[None]] = set()
        broker.on_connected(self._on_connected)

    def full(self, key: RoomKey) -> StreamLimit | None:
        """The limit that one more viewer of the room would exceed, if any."""
        if self._viewers >= self._settings.stream_limit_process:
            return "process"
        room = self._rooms.get(key)
        if (room.viewers if room is not None else 0) >= self._settings.stream_limit_room:
            return "room"
        return None

    @contextmanager
    def watch(self, key: RoomKey) -> Generator[Room, None, None]:
        """The room, watched for as long as the block runs."""
        room = self._rooms.get(key)
        if room is None:
            room = self._rooms[key] = self._open(key)
        room.viewers += 1
        self._viewers += 1
        try:
            yield room
        finally:
            room.viewers -= 1
            self._viewers -= 1
            if room.viewers == 0:
                del self._rooms[key]
                ROOMS_WATCHED.dec()
                closing = room.close()
                self._closing.add(closing)
                closing.add_done_callback(self._closing.discard)

    async def run(self) -> None:
        """Checks all tails at every tick, until cancelled."""
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._settings.tail_check_seconds):
                    await self._check_now.wait()
            self._check_now.clear()
            await self.check()

    async def check(self) -> None:
        """Compares every watched room with the last event that the stream, or else the projection, has of it."""
        rooms = list(self._rooms.values())
        for start in range(0, len(rooms), MOST_TAILS):
            chunk = rooms[start : start + MOST_TAILS]
            if not await self._check_stream(chunk):
                await self._check_projection(chunk)
            elif unknown := [room for room in chunk if not room.projection_answered]:
                await self._check_projection(unknown)

    async def close(self) -> None:
        """Waits for subscriptions to be given back, for a bounded time."""
        if self._closing:
            _, late = await asyncio.wait(self._closing, timeout=_CLOSE_SECONDS)
            for task in late:
                task.cancel()

    def _open(self, key: RoomKey) -> Room:
        ROOMS_WATCHED.inc()
        return Room(
            key,
            broker=self._broker,
            projected=self._projected,
            stored=self._stored,
            replay=self.replay,
            settings=self._settings,
            gate=self._gate,
        )

    async def _on_connected(self) -> None:
        for room in self._rooms.values():
            room.attend()
        self._check_now.set()

    async def _check_stream(self, rooms: list[Room]) -> bool:
        try:
            tails = await self._stored.tails([room.subject for room in rooms])
        except BrokerUnavailableError as error:
            _log.debug("tails_unknown", error=str(error))
            return False
        for room in rooms:
            room.stream_answered = True
            if (tail := tails.get(room.subject)) is not None:
                room.learn(tail.stream_seq)
        return True

    async def _check_projection(self, rooms: list[Room]) -> None:
        try:
            heads = await self._projected.heads([room.key for room in rooms])
        except ProjectionAwayError as error:
            _log.debug("heads_unknown", error=str(error))
            return
        for room in rooms:
            room.projection_answered = True
            room.learn(heads.get(room.key, 0))
