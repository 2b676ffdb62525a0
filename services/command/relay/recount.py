"""Setting all rooms back to what the stream really holds, where it is another than it was, or an older copy.

Invariant: nothing of a room is published before it is set back. What a leader has counted it does not count again where
an answer fails to come; the next leader does, as nobody tells it what was published since. A room that somebody keeps
locked is counted, and set back when it is free: it holds up no other.
"""

import asyncio
import itertools
import time
from datetime import UTC, datetime, timedelta

import structlog

from services.command.relay.heads import last_events
from services.command.relay.outbox import START, find_kept, list_published, reset_published
from shared.contracts.ids import RoomKey
from shared.messaging.broker import Broker
from shared.messaging.direct_get import MOST_SUBJECTS
from shared.messaging.stream import StreamIdentity, StreamSettings, StreamState
from shared.postgres import Connection
from shared.telemetry import Logger

AGAIN_SECONDS = 0.1
"""How often rooms that are locked are asked for."""
_MOST_LOCKED = 10_000
"""Remembered. Where there are more, the others wait for that."""

_log: Logger = structlog.get_logger("relay")


class Recount:
    """One leader's."""

    def __init__(self) -> None:
        self._identity: StreamIdentity | None = None
        self._after = START
        """The room up to which they are counted, in the stream of that identity."""
        self._locked: dict[RoomKey, int] = {}
        """Rooms that are yet to be set back, and where to."""
        self._again_at = 0.0

    @property
    def locked(self) -> set[RoomKey]:
        """Rooms that are yet to be set back. Until none is, the position that is stored has to stand still."""
        return set(self._locked)

    @property
    def is_over(self) -> bool:
        return not self._locked

    @property
    def is_due(self) -> bool:
        """Whether it is time to go on with those that were locked."""
        return bool(self._locked) and time.monotonic() >= self._again_at

    def forget(self) -> None:
        """What is published from here on is not counted."""
        self._identity = None
        self._locked.clear()

    async def run(self, connection: Connection, broker: Broker, stream: StreamState, settings: StreamSettings) -> None:
        if stream.identity != self._identity:
            self.forget()
            self._identity, self._after = stream.identity, START
        oldest_kept = datetime.now(UTC) - timedelta(seconds=settings.max_age_seconds)
        while rooms := await list_published(connection, self._after, MOST_SUBJECTS):
            left = rooms
            while left:
                last = await last_events(connection, broker, left, stream.last_seq)
                found = {room: 0 for room in left if room not in last.left}
                found |= {room: event.stream_seq for room, event in last.found.items()}
                await self._set_back(connection, await find_kept(connection, found, oldest_kept))
                left = [room for room in left if room in last.left]
            self._after = rooms[-1]
            while len(self._locked) > _MOST_LOCKED:
                await asyncio.sleep(AGAIN_SECONDS)
                await self.go_on(connection)
        self._identity = None
        if self._locked:
            _log.info("rooms_busy", rooms=len(self._locked))

    async def go_on(self, connection: Connection) -> set[RoomKey]:
        """Sets back those of the locked rooms that are free by now, and gives them; of many, some at a time.

        Nothing of them has been published meanwhile, so that the stream holds what it did.
        """
        asked = dict(itertools.islice(self._locked.items(), MOST_SUBJECTS))
        await self._set_back(connection, asked)
        return asked.keys() - self._locked.keys()

    async def _set_back(self, connection: Connection, kept: dict[RoomKey, int]) -> None:
        busy = await reset_published(connection, kept)
        for room in kept:
            self._locked.pop(room, None)
        self._locked |= {room: kept[room] for room in busy}
        self._again_at = time.monotonic() + AGAIN_SECONDS
