"""What the stream has of this store and the store does not know yet.

Invariant: the position that is stored is never ahead of what is recorded of the rooms, as from there on the next leader
reads what was published. It stands still while somebody keeps one of the rooms locked, and while there are strangers,
which show in what comes behind it.
"""

import time
from collections.abc import Mapping
from typing import NamedTuple

import asyncpg
import structlog

from services.command.relay.outbox import record_free, record_published
from shared.contracts.ids import RoomKey
from shared.messaging.stream import StreamIdentity
from shared.postgres import Connection
from shared.telemetry import Logger

RECORD_SECONDS = 0.5
"""How often what was published is recorded. What was not is read from the stream's tail by the next leader."""

_log: Logger = structlog.get_logger("relay")


class Standing(NamedTuple):
    """Where the relay stands: in which stream, behind which position."""

    identity: StreamIdentity
    position: int


class Unrecorded:
    """``rooms`` are on the stream up to there, and yet to be recorded."""

    def __init__(self) -> None:
        self.rooms: dict[RoomKey, int] = {}
        self.are_locked = False
        """Whether those are rooms that somebody keeps locked."""
        self._record_at = 0.0

    @property
    def is_due(self) -> bool:
        return time.monotonic() >= self._record_at

    def clear(self) -> None:
        """It is to be read from the stream's tail."""
        self.rooms, self.are_locked = {}, False

    def add(self, rooms: Mapping[RoomKey, int]) -> None:
        self.rooms |= rooms

    async def record(self, connection: Connection, standing: Standing, *, stands_still: bool) -> None:
        """Remembers it of every room that nobody keeps locked; and where the relay stands, unless that stands still.

        Of a room that somebody keeps locked it is remembered here, until the room is free.
        """
        self._record_at = time.monotonic() + RECORD_SECONDS
        if not (self.are_locked or stands_still):
            try:
                await record_published(connection, self.rooms, *standing)
            except asyncpg.LockNotAvailableError:
                _log.info("rooms_busy")
            else:
                self.rooms = {}
                return
        busy = await record_free(connection, self.rooms)
        self.rooms = {room: self.rooms[room] for room in busy}
        self.are_locked = bool(busy)
        if not (busy or stands_still):
            await record_published(connection, {}, *standing)
