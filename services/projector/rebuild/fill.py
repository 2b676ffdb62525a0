"""Filling one partition of a new version from the event store.

Invariant: a page's rows and its rooms' applied seq are one transaction, and a room at 0 is yet to be filled, so that a
fill goes on where it was ended. The stream's position was taken before the rooms were first read: what is read too
little comes from there.
"""

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import NamedTuple

import asyncpg

from services.projector.copying import COPIES, copy_rows
from services.projector.projections import PROJECTIONS
from services.projector.projections.base import Recorded, RoomEvents
from shared.contracts.ids import RoomKey
from shared.postgres import Connection, connected, load_queries

_SQL = load_queries(Path(__file__).parent / "sql")
_STATEMENTS = load_queries(Path(__file__).parents[1] / "sql")

NAME = "runroom-projector"
PAGE_ROOMS = 1000
SLICE_EVENTS = 10_000
"""A page ends with the room that reaches it; a larger room is written in slices."""
SLICE_BYTES = 32 * 1024 * 1024
_PREFETCH = 200
"""Events of 1 MiB are rare, but several processes may meet them."""

_Slice = dict[RoomKey, list[Recorded]]


class Target(NamedTuple):
    """The version that is filled, and where the databases are: all that another process has to know."""

    event_store_dsn: str
    projection_dsn: str
    projection: str
    version: int
    name: str


async def fill_partition(target: Target, partition: int, count: Callable[[int], None]) -> list[RoomKey]:
    """The rooms left to the workers. ``count`` takes the events of each page. Raises one of ``STORE_ERRORS``."""
    async with connected(target.event_store_dsn, NAME) as store, connected(target.projection_dsn, NAME) as projections:
        await projections.execute(_SQL["fill_lock"], target.name, partition)
        skips = await projections.fetch(_SQL["skips_of"], target.name, partition)
        fill = _Fill(store, projections, target, frozenset(tuple(row) for row in skips), count)
        return await fill.run(partition)


class _Fill:
    def __init__(
        self,
        store: Connection,
        projections: Connection,
        target: Target,
        skips: frozenset[tuple[str, str, int]],
        count: Callable[[int], None],
    ) -> None:
        self._store = store
        self._projections = projections
        self._target = target
        self._skips = skips
        self._count = count

    async def run(self, partition: int) -> list[RoomKey]:
        left: list[RoomKey] = []
        after = RoomKey("", "")
        while rows := await self._projections.fetch(
            _SQL["rooms_to_fill"], self._target.name, partition, *after, PAGE_ROOMS
        ):
            page = await self._page([RoomKey(*row) for row in rows])
            left += await self._fill(page)
            after = page[-1]
        return left

    async def _page(self, keys: Sequence[RoomKey]) -> Sequence[RoomKey]:
        """So many of the rooms as are to be filled together."""
        sizes = {RoomKey(*row[:2]): row[2] for row in await self._store.fetch(_SQL["sizes"], *_columns(keys))}
        events = 0
        for number, key in enumerate(keys, 1):
            events += sizes.get(key, 0)
            if events >= SLICE_EVENTS:
                return keys[:number]
        return keys

    async def _fill(self, keys: Sequence[RoomKey]) -> list[RoomKey]:
        """Those of the rooms that cannot be filled. Workers apply what can be of their events, and park what cannot."""
        try:
            await self._fill_together(keys)
        except Exception as error:  # whatever the fold or PostgreSQL cannot take: the one room is found by itself
            if not _is_about_data(error):
                raise
            if len(keys) == 1:
                return list(keys)
            middle = len(keys) // 2
            return await self._fill(keys[:middle]) + await self._fill(keys[middle:])
        return []

    async def _fill_together(self, keys: Sequence[RoomKey]) -> None:
        filled: dict[RoomKey, int] = {}
        # Closed at once when a write fails: the next page is read on the same connection.
        async with aclosing(self._slices(keys)) as slices, self._projections.transaction():
            async for part in slices:
                filled |= {key: events[-1].stream_seq for key, events in part.items()}
                await self._write(part)
            seqs = list(filled.values())
            status = await self._projections.execute(
                _SQL["rooms_filled"], self._target.name, *_columns(list(filled)), seqs
            )
            if status != f"UPDATE {len(filled)}":
                raise asyncpg.InterfaceError(f"somebody else has filled {self._target.name}")
        self._count(sum(seqs))

    async def _slices(self, keys: Sequence[RoomKey]) -> AsyncGenerator[_Slice, None]:
        part: _Slice = {}
        count = size = 0
        async with self._store.transaction(readonly=True):
            async for row in self._store.cursor(_SQL["events_of"], *_columns(keys), prefetch=_PREFETCH):
                recorded = Recorded(row["stream_seq"], 0, row["envelope"])
                part.setdefault(RoomKey(row["workspace_id"], row["room_id"]), []).append(recorded)
                count += 1
                size += len(recorded.envelope)
                if count >= SLICE_EVENTS or size >= SLICE_BYTES:
                    yield part
                    part, count, size = {}, 0, 0
        if part:
            yield part

    async def _write(self, part: _Slice) -> None:
        rooms = [
            RoomEvents(key, [event for event in events if (*key, event.stream_seq) not in self._skips])
            for key, events in part.items()
        ]
        for write in PROJECTIONS[self._target.projection].fold(rooms):
            copy = COPIES.get(write.query)
            if copy is None:
                statement = _STATEMENTS[write.query].replace("_v1", f"_v{self._target.version}")
                if await self._projections.fetch(statement, *write.columns):
                    raise LookupError(f"{write.query} did not find what it should have changed")
                continue
            await copy_rows(self._projections, copy, write, self._target.version)


def _columns(keys: Sequence[RoomKey]) -> tuple[list[str], list[str]]:
    return [key.workspace_id for key in keys], [key.room_id for key in keys]


def _is_about_data(error: Exception) -> bool:
    """Whether the events are at fault, not a database that is away."""
    if isinstance(error, asyncpg.PostgresError):
        return isinstance(
            error, asyncpg.DataError | asyncpg.IntegrityConstraintViolationError | asyncpg.ProgramLimitExceededError
        )
    return not isinstance(error, asyncpg.InterfaceError | asyncpg.InternalClientError | OSError | TimeoutError)
