"""The outbox as the relay sees it: what is committed and not yet published, and where the relay stands in the stream.

Invariant: ``published_seq`` moves forward on the stream's word alone, and back only to what the stream really holds.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Literal, NamedTuple

import asyncpg

from shared.contracts.ids import RoomKey, is_printable_ascii, is_token
from shared.contracts.subjects import MOST_STREAM_SEQ
from shared.contracts.tracecontext import is_traceparent
from shared.messaging.stream import StreamIdentity
from shared.postgres import Connection, Pool, load_queries

_SQL = load_queries(Path(__file__).parent.parent / "sql")

START = RoomKey("", "")
"""Sorts before every room."""


Fault = Literal["too large", "malformed", "missing"]
"""Why an event cannot be published: larger than the broker takes; not of the form of ours, by its room, its type, its
number or its trace; not in the store, though its room counts it."""

_LONGEST_TYPE = 128


class UnpublishedEvent(NamedTuple):
    room: RoomKey
    stream_seq: int
    event_id: str
    event_type: str
    traceparent: str | None
    envelope: bytes


class Unpublished(NamedTuple):
    """A page of what is to be published. ``faulty`` are rooms with the seq and the fault of the first event that cannot
    be: neither it nor what follows it is among the ``events``. ``last`` is the room to go on after, None at the end."""

    events: list[UnpublishedEvent]
    faulty: dict[RoomKey, tuple[int, Fault]]
    last: RoomKey | None


class RelayPosition(NamedTuple):
    """The stream the relay last wrote to, and the position of the last message it knows of."""

    created: str
    epoch: int
    position: int

    def is_of(self, identity: StreamIdentity) -> bool:
        return (self.created, self.epoch) == (identity.created, identity.epoch)


class Waiting(NamedTuple):
    """``seconds`` is the age of the oldest event that can be published."""

    rooms: int
    events: int
    seconds: float


async def read_unpublished(
    connection: Connection, after: RoomKey, most: int, most_bytes: int, largest: int
) -> Unpublished:
    """The next events of rooms that sort after ``after``, each room's in order, with envelopes of ``largest`` bytes."""
    rows = await connection.fetch(
        _SQL["relay_read_unpublished"], after.workspace_id, after.room_id, most, most_bytes, largest
    )
    return _page(rows, most, most_bytes)


async def read_rooms(
    connection: Connection, rooms: Sequence[RoomKey], most: int, most_bytes: int, largest: int
) -> Unpublished:
    """The same of these rooms alone. Where it ends early, those that sort after ``last`` are yet to be read."""
    rows = await connection.fetch(
        _SQL["relay_read_rooms"],
        [room.workspace_id for room in rooms],
        [room.room_id for room in rooms],
        most,
        most_bytes,
        largest,
    )
    return _page(rows, most, most_bytes)


def _page(rows: Sequence[asyncpg.Record], most: int, most_bytes: int) -> Unpublished:
    events: list[UnpublishedEvent] = []
    faulty: dict[RoomKey, tuple[int, Fault]] = {}
    size = 0
    room = START
    for row in rows:
        room = RoomKey(row["workspace_id"], row["room_id"])
        envelope: bytes | None = row["envelope"]
        size += len(envelope or b"")
        if room in faulty:
            continue
        if row["stream_seq"] is None:
            faulty[room] = (0, "missing")
        elif envelope is None:
            faulty[room] = (row["stream_seq"], "too large")
        elif not _is_well_formed(room, row):
            faulty[room] = (row["stream_seq"], "malformed")
        else:
            event_id, event_type, traceparent = str(row["event_id"]), row["event_type"], row["traceparent"]
            events.append(UnpublishedEvent(room, row["stream_seq"], event_id, event_type, traceparent, envelope))
    return Unpublished(events, faulty, room if len(rows) == most or size >= most_bytes else None)


def _is_well_formed(room: RoomKey, row: asyncpg.Record) -> bool:
    """Whether it makes a subject and headers, as what this service has written does."""
    traceparent: str | None = row["traceparent"]
    return (
        is_token(room.workspace_id)
        and is_token(room.room_id)
        and row["stream_seq"] <= MOST_STREAM_SEQ
        and is_printable_ascii(row["event_type"], _LONGEST_TYPE)
        and (traceparent is None or is_traceparent(traceparent))
    )


async def read_position(connection: Connection) -> RelayPosition:
    row = await connection.fetchrow(_SQL["relay_read_position"])
    if row is None:
        raise LookupError("the relay's row is missing: has somebody deleted it?")
    return RelayPosition(row["stream_created"], row["stream_epoch"], row["stream_position"])


async def unknown_rooms(connection: Connection, tail: Mapping[RoomKey, tuple[int, str]]) -> set[RoomKey]:
    """Those of the rooms in which the event of that number has another id, or there is none."""
    rows = await connection.fetch(
        _SQL["relay_unknown_events"],
        [room.workspace_id for room in tail],
        [room.room_id for room in tail],
        [stream_seq for stream_seq, _ in tail.values()],
        # PostgreSQL takes no text with a NUL in it, and no event has such an id.
        ["" if "\0" in event_id else event_id for _, event_id in tail.values()],
    )
    return {RoomKey(*row) for row in rows}


async def record_published(
    connection: Connection, published: dict[RoomKey, int], identity: StreamIdentity, position: int
) -> None:
    """Remembers the last stream_seq the stream holds of each room, and the relay's own position."""
    await connection.execute(
        _SQL["relay_record_published"],
        *_columns(published),
        identity.created,
        identity.epoch,
        position,
    )


async def record_free(connection: Connection, published: dict[RoomKey, int]) -> list[RoomKey]:
    """Remembers it of those rooms that nobody has locked, and gives the others; the relay's position stays."""
    rows = await connection.fetch(
        _SQL["relay_record_free"],
        *_columns(published),
    )
    return [RoomKey(*row) for row in rows]


async def list_published(connection: Connection, after: RoomKey, most: int) -> list[RoomKey]:
    rows = await connection.fetch(_SQL["relay_list_published"], after.workspace_id, after.room_id, most)
    return [RoomKey(row["workspace_id"], row["room_id"]) for row in rows]


async def find_kept(connection: Connection, found: dict[RoomKey, int], oldest_kept: datetime) -> dict[RoomKey, int]:
    """Rooms of which the stream holds less than was published, and up to where they stay so: events recorded before
    ``oldest_kept`` it would no more hold."""
    rows = await connection.fetch(
        _SQL["relay_find_kept"],
        *_columns(found),
        oldest_kept,
    )
    return {RoomKey(row["workspace_id"], row["room_id"]): row["stream_seq"] for row in rows}


async def reset_published(connection: Connection, kept: dict[RoomKey, int]) -> list[RoomKey]:
    """Sets those that nobody has locked back to there, and gives the others."""
    rows = await connection.fetch(
        _SQL["relay_reset_published"],
        *_columns(kept),
    )
    return [RoomKey(*row) for row in rows]


async def count_unpublished(pool: Pool, most_bytes: int | None) -> Waiting:
    """What is waiting to be published, and for how long what is no larger than that. Raises one of ``STORE_ERRORS``."""
    row = await pool.fetchrow(_SQL["relay_count_unpublished"], most_bytes)
    return Waiting(row["rooms"], row["events"], row["seconds"]) if row else Waiting(0, 0, 0.0)


def _columns(rooms: Mapping[RoomKey, int]) -> tuple[list[str], list[str], list[int]]:
    """Workspaces, rooms and the numbers that go with them."""
    return [room.workspace_id for room in rooms], [room.room_id for room in rooms], list(rooms.values())
