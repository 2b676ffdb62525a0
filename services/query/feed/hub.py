"""The rooms that are watched now.

Invariant: a room is subscribed to while it has a viewer, and not longer. A live message that was silently lost is found
out within one tick: at every tick, what the stream holds of all watched rooms since the tick before is looked at, and
right after NATS is back all of it.
"""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from itertools import count
from math import ceil
from typing import Final

import structlog

from services.query.feed.delivery import Deliveries
from services.query.feed.frame import StreamLimit
from services.query.feed.looker import Looker
from services.query.feed.replay import Replay
from services.query.feed.room import Room
from services.query.metrics import ROOMS_WATCHED
from services.query.principals import Principal, Principals
from services.query.settings import FeedSettings
from shared.contracts.ids import RoomKey
from shared.messaging.broker import Broker
from shared.telemetry import LineBudget, Logger

_CLOSE_SECONDS: Final = 2.0
_CHECKS_OF_ALL: Final = 128
"""In so many ticks each room is asked about from the stream's beginning once: a cluster may lose acknowledged events,
and pass the place where it was, without a connection of ours being lost."""

_log: Logger = structlog.get_logger("feed")
_failures = LineBudget(1)


class Hub:
    def __init__(self, broker: Broker, looker: Looker, replay: Replay, settings: FeedSettings) -> None:
        self.replay = replay
        self.connected_at = 0.0
        """When the connection to NATS last came about, by the clock of the event loop."""
        self._deliveries = Deliveries()
        self._broker = broker
        self._looker = looker
        self._settings = settings
        self._rooms: dict[RoomKey, Room] = {}
        self._viewers = 0
        self._principals = Principals(settings.stream_limit_principal)
        self._check_now = asyncio.Event()
        self._closing: set[asyncio.Task[None]] = set()
        broker.on_connected(self._on_connected)

    def full(self, key: RoomKey, principal: Principal | None = None) -> StreamLimit | None:
        """The limit that one more viewer of the room would exceed, if any; without a principal there is none for it."""
        if self._viewers >= self._settings.stream_limit_process:
            return "process"
        room = self._rooms.get(key)
        if (room.viewers if room is not None else 0) >= self._settings.stream_limit_room:
            return "room"
        if self._principals.is_full(principal):
            return "principal"
        return None

    def enter(self, key: RoomKey, principal: Principal | None = None) -> Room:
        """The room, watched until ``leave`` is called."""
        room = self._rooms.get(key)
        if room is None:
            room = self._rooms[key] = self._open(key)
        room.viewers += 1
        self._viewers += 1
        self._principals.enter(principal)
        return room

    def leave(self, room: Room, principal: Principal | None = None) -> None:
        """One viewer less."""
        room.viewers -= 1
        self._viewers -= 1
        self._principals.leave(principal)
        if room.viewers == 0:
            del self._rooms[room.key]
            ROOMS_WATCHED.dec()
            closing = room.close()
            self._closing.add(closing)
            closing.add_done_callback(self._closing.discard)

    async def run(self) -> None:
        """Checks all tails at every tick, until cancelled."""
        for tick in count():
            with suppress(TimeoutError):
                async with asyncio.timeout(self._settings.tail_check_seconds):
                    await self._check_now.wait()
            rooms = list(self._rooms.values())
            try:
                await self._check(rooms, tick)
            except Exception:
                # What is read may be anybody's, and whatever it leads to, rooms are watched and viewers served.
                _forget(rooms)
                if (left_out := _failures.take()) is not None:
                    _log.exception("check_failed", left_out=left_out)

    async def _check(self, rooms: Sequence[Room], tick: int) -> None:
        if self._check_now.is_set():
            self._check_now.clear()
            # What is new comes at once. Then everything: a broker that comes back may hold less than it did, and have
            # passed the place where it was with other events since.
            await self._looker.check(rooms)
            _forget(rooms)
        share = ceil(len(rooms) / _CHECKS_OF_ALL)
        _forget(rooms[tick % _CHECKS_OF_ALL * share :][:share])
        await self._looker.check(rooms)

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
            looker=self._looker,
            replay=self.replay,
            deliveries=self._deliveries,
            settings=self._settings,
        )

    async def _on_connected(self) -> None:
        self.connected_at = asyncio.get_running_loop().time()
        for room in self._rooms.values():
            room.attend()
        self._check_now.set()


def _forget(rooms: Sequence[Room]) -> None:
    """Has the stream asked about all of the rooms the next time."""
    for room in rooms:
        room.looked_to = 0
