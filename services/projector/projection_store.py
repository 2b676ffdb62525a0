"""Writing a projection: its rows, the rooms' applied seq and the checkpoints, in one transaction.

Invariant: a batch is committed only while every partition in it is ours by epoch. That fence, not a clock, is why each
event is applied exactly once; a worker that wakes up late writes nothing.
"""

import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import asyncpg

from services.projector.copying import COPIES, copy_rows
from services.projector.projections.base import Write
from services.projector.session import Session
from shared.contracts.ids import RoomKey
from shared.postgres import STORE_ERRORS, Connection, load_queries
from shared.printable import printable

_SQL = load_queries(Path(__file__).parent / "sql")

_MOST_ERROR = 500
"""Characters."""
_COPIED_ROWS = 100
"""So many rows and more go in by COPY. Fewer are not worth its extra round trip."""

_DATA_ERRORS = (
    asyncpg.DataError,
    asyncpg.IntegrityConstraintViolationError,
    asyncpg.ProgramLimitExceededError,
    ValueError,  # asyncpg's own, for values it cannot encode
    struct.error,  # the same of what goes in by COPY
)


class LeaseLostError(Exception):
    """Somebody else has taken over ``partitions``; nothing was written."""

    def __init__(self, partitions: frozenset[int]) -> None:
        super().__init__(f"partitions {sorted(partitions)} are no longer ours")
        self.partitions = partitions


class PoisonError(Exception):
    """Something in the batch cannot be applied by this code; nothing was written.

    ``kind`` names the error, ``text`` is it in a line, for the table of what is parked. That stays out of logs: it may
    quote the event. ``of_rooms`` has the rooms in which something is wrong, each with an error of its own, where that
    is known; then it is all that is known to be.
    """

    def __init__(self, said: str, of_rooms: Mapping[RoomKey, "PoisonError"] | None = None, *, kind: str = "") -> None:
        super().__init__(said)
        self.of_rooms = of_rooms or {}
        self.kind = kind or type(self).__name__
        line = said.partition("\n")[0][:_MOST_ERROR]
        self.text = printable(f"{self.kind}: {line}")[:_MOST_ERROR]

    @classmethod
    def by(cls, error: Exception) -> "PoisonError":
        """What that error says, without the error: its traceback leads to the event, and to what was made of it."""
        return cls(str(error), kind=type(error).__name__)


class MissingRowError(PoisonError):
    """An event is about something that no event of its room created before it, or creates what is there already."""

    @classmethod
    def of(cls, query: str, missed: Sequence[asyncpg.Record]) -> "MissingRowError":
        """Of what the statement returned: ids, with the rooms of the events that name them."""
        errors: dict[RoomKey, PoisonError] = {}
        for missing_id, workspace_id, room_id in missed:
            errors.setdefault(RoomKey(workspace_id, room_id), cls(f"{query} has no {missing_id} in this room"))
        return cls(f"{query} misses rows in {len(errors)} rooms", errors)


class Mark(NamedTuple):
    """The checkpoint of one partition: applied up to ``position`` of the stream ``stream_key``, under ``epoch``."""

    partition: int
    epoch: int
    stream_key: str
    position: int


class Advance(NamedTuple):
    """How far a room has come, by events from ``first_seq`` on."""

    key: RoomKey
    partition: int
    first_seq: int
    applied_seq: int


class Park(NamedTuple):
    """An event that cannot be applied; ``error`` is for operators, not for logs."""

    key: RoomKey
    partition: int
    stream_seq: int
    error: str


class ParkedEvent(NamedTuple):
    """One parked event as the table has it; ``wanted`` is ``retry``, ``skip`` or None."""

    key: RoomKey
    partition: int
    stream_seq: int
    error: str
    attempts: int
    wanted: str | None


class ProjectionStore:
    """One projection's own connection to the projection database. ``owner`` is the worker.

    ``projection`` is the name of a version; its tables are those with that ``version`` in their names.
    """

    def __init__(self, session: Session, projection: str, owner: str, version: int = 1) -> None:
        self._session = session
        self._writes = {name: text.replace("_v1", f"_v{version}") for name, text in _SQL.items()}
        self._version = version
        self._projection = projection
        self._owner = owner

    async def applied_seqs(self, keys: Sequence[RoomKey]) -> dict[RoomKey, int]:
        """How far each room has come; rooms never seen are absent. Raises one of ``STORE_ERRORS``."""
        rows = await self._fetch(
            "applied_seqs", self._projection, [key.workspace_id for key in keys], [key.room_id for key in keys]
        )
        return {RoomKey(row["workspace_id"], row["room_id"]): row["applied_seq"] for row in rows}

    async def lagging(self, rooms: Sequence[tuple[RoomKey, int]]) -> list[tuple[RoomKey, int]]:
        """Those of the rooms that have come less far than the seq given. Raises one of ``STORE_ERRORS``."""
        rows = await self._fetch(
            "lagging_rooms",
            self._projection,
            [key.workspace_id for key, _ in rooms],
            [key.room_id for key, _ in rooms],
            [seq for _, seq in rooms],
        )
        return [(RoomKey(row["workspace_id"], row["room_id"]), row["stream_seq"]) for row in rows]

    async def parked(self, partitions: Sequence[int], most: int) -> list[ParkedEvent]:
        """What is parked in the partitions. Raises one of ``STORE_ERRORS``."""
        rows = await self._fetch("parked_open", self._projection, partitions, most)
        return [
            ParkedEvent(
                RoomKey(row["workspace_id"], row["room_id"]),
                row["partition"],
                row["stream_seq"],
                row["error"],
                row["attempts"],
                row["wanted"],
            )
            for row in rows
        ]

    async def settle(self, events: Sequence[tuple[RoomKey, int]]) -> None:
        """Takes parked events out that are wanted and no event of ours. Raises one of ``STORE_ERRORS``."""
        await self._fetch(
            "parked_settled",
            self._projection,
            [key.workspace_id for key, _ in events],
            [key.room_id for key, _ in events],
            [seq for _, seq in events],
            self._owner,
        )

    async def apply(
        self,
        writes: Sequence[Write],
        advances: Sequence[Advance],
        marks: Sequence[Mark],
        parks: Sequence[Park] = (),
        skips: Sequence[tuple[RoomKey, int]] = (),
    ) -> None:
        """Commits all of it or nothing; ``skips`` are parked events that are left out for good.

        Raises ``LeaseLostError`` or ``PoisonError``, and nothing was written; or one of ``STORE_ERRORS``, and the
        outcome is unknown.
        """
        try:
            await self._apply(writes, advances, marks, parks, skips, copying=True)
        except asyncpg.UniqueViolationError:
            # Some of the rows are there already, which only statements pass over.
            await self._apply(writes, advances, marks, parks, skips, copying=False)

    async def _apply(
        self,
        writes: Sequence[Write],
        advances: Sequence[Advance],
        marks: Sequence[Mark],
        parks: Sequence[Park],
        skips: Sequence[tuple[RoomKey, int]],
        *,
        copying: bool,
    ) -> None:
        said: tuple[str, str] | None = None
        try:
            async with self._session.transaction() as connection:
                for write in writes:
                    await self._write(connection, write, copying=copying)
                if parks:
                    await self._park(connection, parks)
                if skips:
                    keys = [key for key, _ in skips]
                    await connection.execute(
                        _SQL["skipped"],
                        self._projection,
                        [key.workspace_id for key in keys],
                        [key.room_id for key in keys],
                        [seq for _, seq in skips],
                    )
                await self._advance(connection, advances, marks)
        except _DATA_ERRORS as error:
            if copying and isinstance(error, asyncpg.UniqueViolationError):
                raise
            said = type(error).__name__, str(error)
        except STORE_ERRORS:
            self._session.discard()
            raise
        if said is not None:  # not from the error, see `PoisonError.by`
            kind, text = said
            raise PoisonError(text, kind=kind)

    async def _write(self, connection: Connection, write: Write, *, copying: bool) -> None:
        if copying and len(write.columns[0]) >= _COPIED_ROWS and (copy := COPIES.get(write.query)) is not None:
            await copy_rows(connection, copy, write, self._version)
        elif missed := await connection.fetch(self._writes[write.query], *write.columns):
            raise MissingRowError.of(write.query, missed)

    async def _park(self, connection: Connection, parks: Sequence[Park]) -> None:
        await connection.execute(
            _SQL["park"],
            self._projection,
            [park.key.workspace_id for park in parks],
            [park.key.room_id for park in parks],
            [park.stream_seq for park in parks],
            [park.partition for park in parks],
            [park.error for park in parks],
        )

    async def _advance(self, connection: Connection, advances: Sequence[Advance], marks: Sequence[Mark]) -> None:
        rows = await connection.fetch(
            _SQL["advance"],
            self._projection,
            [advance.key.workspace_id for advance in advances],
            [advance.key.room_id for advance in advances],
            [advance.partition for advance in advances],
            [advance.applied_seq for advance in advances],
            self._owner,
            [mark.partition for mark in marks],
            [mark.epoch for mark in marks],
            [mark.stream_key for mark in marks],
            [mark.position for mark in marks],
            [advance.first_seq for advance in advances],
        )
        if len(rows) != len(marks):
            raise LeaseLostError(frozenset(mark.partition for mark in marks) - {row["partition"] for row in rows})

    async def _fetch(self, query: str, *arguments: object) -> list[asyncpg.Record]:
        connection = await self._session.get()
        try:
            return await connection.fetch(_SQL[query], *arguments)
        except STORE_ERRORS:
            self._session.discard()
            raise
