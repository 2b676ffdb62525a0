"""The event store, as far as a projector needs it: the events that the stream did not bring.

Invariant: reads only. The event store is the truth, the stream is the usual road to it.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import asyncpg

from services.projector.projections.base import Recorded
from services.projector.session import Session
from shared.contracts.ids import RoomKey
from shared.postgres import STORE_ERRORS, load_queries

_SQL = load_queries(Path(__file__).parent / "sql")

MOST_EVENTS_OF_ROOM = 500
MOST_EVENTS = 2000
MOST_BYTES = 16 * 1024 * 1024


class Hole(NamedTuple):
    """Events of a room after ``applied_seq`` and up to ``last_seq``."""

    key: RoomKey
    applied_seq: int
    last_seq: int


class Found(NamedTuple):
    """Events by room. Only if ``complete`` does a room's absence mean that there are none of it."""

    events: dict[RoomKey, list[Recorded]]
    complete: bool

    def lacks(self, hole: Hole) -> bool:
        """Whether the first event of the hole is not there, whatever comes behind it."""
        stored = self.events.get(hole.key)
        return self.complete and (not stored or stored[0].stream_seq != hole.applied_seq + 1)


class PublishedRoom(NamedTuple):
    key: RoomKey
    published_seq: int


class Reach(NamedTuple):
    """A room has events up to ``last_seq``, and was published up to ``published_seq``."""

    published_seq: int
    last_seq: int


class UnpublishedRoom(NamedTuple):
    """A room whose events after ``published_seq`` and up to ``last_seq`` are on no stream yet."""

    key: RoomKey
    published_seq: int
    last_seq: int


class Age(NamedTuple):
    """``seconds`` since an event was recorded, how large it is, and whether it is of a form that can be published."""

    seconds: float
    size: int
    is_well_formed: bool


class EventSource:
    """One task's own way to the event store. Every method raises one of ``STORE_ERRORS``."""

    def __init__(self, session: Session) -> None:
        self._session = session

    async def missing(self, holes: Sequence[Hole]) -> Found:
        """The first events of each hole, in order; a bounded number, so that some holes may stay open."""
        rows = await self._fetch(
            "missing_events",
            [hole.key.workspace_id for hole in holes],
            [hole.key.room_id for hole in holes],
            [hole.applied_seq for hole in holes],
            [hole.last_seq for hole in holes],
            MOST_EVENTS_OF_ROOM,
            MOST_EVENTS,
            MOST_BYTES,
        )
        found: dict[RoomKey, list[Recorded]] = {}
        size = 0
        for row in rows:
            key = RoomKey(row["workspace_id"], row["room_id"])
            found.setdefault(key, []).append(Recorded(row["stream_seq"], 0, row["envelope"]))
            size += len(row["envelope"])
        return Found(found, len(rows) < MOST_EVENTS and size < MOST_BYTES)

    async def holed(self, places: Sequence[tuple[RoomKey, int]]) -> set[RoomKey]:
        """Which of the rooms count the seq given, or have events behind it, and do not have the event itself."""
        rows = await self._fetch(
            "holed_rooms",
            [key.workspace_id for key, _ in places],
            [key.room_id for key, _ in places],
            [seq for _, seq in places],
        )
        return {RoomKey(row["workspace_id"], row["room_id"]) for row in rows}

    async def published_rooms(self, after: RoomKey, most: int) -> list[PublishedRoom]:
        """A page of all rooms in key order, and up to where the relay says it published each."""
        rows = await self._fetch("published_rooms", after.workspace_id, after.room_id, most)
        return [PublishedRoom(RoomKey(row["workspace_id"], row["room_id"]), row["published_seq"]) for row in rows]

    async def published_of(self, keys: Sequence[RoomKey]) -> dict[RoomKey, Reach]:
        """How far each of the rooms has come; rooms that have no event are absent."""
        rows = await self._fetch("published_of", [key.workspace_id for key in keys], [key.room_id for key in keys])
        return {
            RoomKey(row["workspace_id"], row["room_id"]): Reach(row["published_seq"], row["last_seq"]) for row in rows
        }

    async def unpublished_rooms(self, most: int) -> list[UnpublishedRoom]:
        """Some of the rooms the relay has yet to publish from: all of them, when they are fewer than ``most``."""
        rows = await self._fetch("unpublished_rooms", most)
        return [
            UnpublishedRoom(RoomKey(row["workspace_id"], row["room_id"]), row["published_seq"], row["last_seq"])
            for row in rows
        ]

    async def ages(self, places: Sequence[tuple[RoomKey, int]]) -> dict[tuple[RoomKey, int], Age]:
        """How old each of the events is, by the event store's clock; absent where there is none."""
        rows = await self._fetch(
            "event_ages",
            [key.workspace_id for key, _ in places],
            [key.room_id for key, _ in places],
            [seq for _, seq in places],
        )
        return {
            (RoomKey(row["workspace_id"], row["room_id"]), row["stream_seq"]): Age(
                max(row["age"], 0.0), row["bytes"], row["is_well_formed"]
            )
            for row in rows
        }

    async def _fetch(self, query: str, *arguments: object) -> list[asyncpg.Record]:
        connection = await self._session.get()
        try:
            return await connection.fetch(_SQL[query], *arguments)
        except STORE_ERRORS:
            self._session.discard()
            raise
