"""Filling rooms of a new version from the event store.

Invariant: a page's rows and its rooms' applied seq are one transaction, and a room at 0 is yet to be filled, so that a
fill goes on where it was ended; its rooms are locked in it, so that whoever else would fill them finds them filled. The
stream's position was taken before the rooms were first read: what is read too little comes from there. No page is
committed whose rows are not, once they are in the tables, what was folded. No room keeps another one's run or step,
whichever of them was filled first.
"""

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import NamedTuple

import asyncpg

from services.projector.copying import COPIES, copy_rows
from services.projector.projections import PROJECTIONS
from services.projector.projections.base import Recorded, RoomEvents, Write, fold
from services.projector.verify.rooms import LARGE_BYTES, Page
from shared.contracts.ids import RoomKey
from shared.postgres import FIND_THE_GONE, Connection, connected, load_queries

_SQL = load_queries(Path(__file__).parent / "sql")
_STATEMENTS = load_queries(Path(__file__).parents[1] / "sql")
_CHECKS = load_queries(Path(__file__).parents[1] / "verify" / "sql")

NAME = "runroom-projector"
PAGE_ROOMS = 1000
SLICE_EVENTS = 10_000
"""A page ends with the room that reaches it. Where it is half a slice or more, a slice ends with a room too."""
SLICE_BYTES = 32 * 1024 * 1024
_PREFETCH = 200
"""Events, of which each has ``LARGE_BYTES`` at the most: of what is larger, the key alone."""

_CHECK_OF = {"runs_insert": ("runs_differing", "proj_runs"), "steps_insert": ("steps_differing", "proj_steps")}
"""The statement that tells which rows of a write are not what is in the table, and the view it names."""
CHECKED_VIEWS = {view for _, view in _CHECK_OF.values()} | {"proj_run_tags"}
"""Views whose rows are held against their fold as they are filled, or that PostgreSQL makes of such rows."""
LOOK_UP = "set enable_hashjoin = off; set enable_mergejoin = off"
"""A page's rows are looked up one by one: the planner would go through all rows that are there already."""

_Slice = dict[RoomKey, list[Recorded]]


class Filled(NamedTuple):
    """Rooms that need more than a fill: ``left`` to the workers, or with rows that were not held against their fold.

    ``extents``: of each page, how many rooms were filled, with how many events.
    """

    left: list[RoomKey]
    unchecked: list[RoomKey]
    extents: list[tuple[Page, int, int]]


class WrongRowsError(Exception):
    """What was written is not what was folded. The message says where."""


class HoleError(LookupError):
    """The event store does not hold all events of a room."""


class Target(NamedTuple):
    """The version that is filled, and where the databases are: all that another process has to know."""

    event_store_dsn: str
    projection_dsn: str
    projection: str
    version: int
    name: str


async def fill_pages(target: Target, portion: Sequence[Page], count: Callable[[int], None]) -> Filled:
    """``count`` takes the events that have been filled. Raises ``WrongRowsError`` or one of ``STORE_ERRORS``."""
    async with connected(target.event_store_dsn, NAME) as store, connected(target.projection_dsn, NAME) as projections:
        # It holds rooms that the next command would wait for, were it gone with its machine.
        await projections.execute(f"{LOOK_UP}; {FIND_THE_GONE}")
        fill = _Fill(store, projections, target, count)
        for page in portion:
            await fill.run(page)
        return fill.filled


class _Fill:
    def __init__(
        self,
        store: Connection,
        projections: Connection,
        target: Target,
        count: Callable[[int], None],
    ) -> None:
        self._store = store
        self._projections = projections
        self._target = target
        self._count = count
        self._sizes: dict[RoomKey, int] = {}
        self._rooms = self._events = 0
        self.filled = Filled([], [], [])

    async def run(self, page: Page) -> None:
        whole = page
        self._rooms = self._events = 0
        while rows := await self._projections.fetch(_SQL["rooms_to_fill"], *page.bounds, self._target.name, PAGE_ROOMS):
            keys = await self._page([RoomKey(*row) for row in rows])
            await self._fill(keys)
            page = Page(keys[-1], page.upto)
        self.filled.extents.append((whole, self._rooms, self._events))

    async def _page(self, keys: Sequence[RoomKey]) -> Sequence[RoomKey]:
        """So many of the rooms as are to be filled together."""
        self._sizes = {RoomKey(*row[:2]): row[2] for row in await self._store.fetch(_SQL["sizes"], *_columns(keys))}
        events = 0
        for number, key in enumerate(keys, 1):
            events += self._sizes.get(key, 0)
            if events >= SLICE_EVENTS:
                return keys[:number]
        return keys

    async def _fill(self, keys: Sequence[RoomKey]) -> None:
        """Leaves rooms that cannot be filled: workers apply what can be of their events, and park or skip what cannot.

        Nothing is left out here: an event that can be applied is, whoever has written that it was skipped.
        """
        try:
            await self._fill_together(keys)
        except Exception as error:  # whatever the fold or PostgreSQL cannot take: the one room is found by itself
            if not _is_about_data(error):
                raise
            if len(keys) == 1:
                if await self._give_way(keys[0]):
                    await self._fill(keys)
                else:
                    self.filled.left.extend(keys)
                return
            middle = len(keys) // 2
            await self._fill(keys[:middle])
            await self._fill(keys[middle:])

    async def _give_way(self, key: RoomKey) -> bool:
        """Leaves rooms to the workers that were filled before this one with steps of it. Whether there are any.

        Nothing in the event store says whose a step is. It is whose it was to the workers, who had events as they came.
        """
        if self._target.projection != "runs":
            return False
        statement = _SQL["rooms_in_the_way"].replace("_v1", f"_v{self._target.version}")
        rooms = [RoomKey(*row) for row in await self._projections.fetch(statement, *key)]
        if rooms:
            statement = _SQL["rooms_taken_back"].replace("_v1", f"_v{self._target.version}")
            await self._projections.execute(statement, self._target.name, *_columns(rooms))
            self.filled.left.extend(rooms)
        return bool(rooms)

    async def _fill_together(self, keys: Sequence[RoomKey]) -> None:
        async with self._projections.transaction():
            rows = await self._projections.fetch(_SQL["rooms_claimed"], self._target.name, *_columns(keys))
            filled, cut = await self._write_all([RoomKey(*row) for row in rows])
            seqs = list(filled.values())
            await self._projections.execute(_SQL["rooms_filled"], self._target.name, *_columns(list(filled)), seqs)
        self.filled.unchecked.extend(cut)
        self._rooms += len(seqs)
        self._events += sum(seqs)
        self._count(sum(seqs))

    async def _write_all(self, keys: Sequence[RoomKey]) -> tuple[dict[RoomKey, int], list[RoomKey]]:
        """The last event of each room, and the rooms that were cut in two."""
        filled: dict[RoomKey, int] = {}
        cut: list[RoomKey] = []
        # Closed at once when a write fails: the next page is read on the same connection.
        async with aclosing(self._slices(keys)) as slices:
            async for part in slices:
                for key, events in part.items():
                    before = filled.get(key, 0)
                    if before:
                        cut.append(key)
                    if [event.stream_seq for event in events] != list(range(before + 1, before + 1 + len(events))):
                        raise HoleError("events of a room are missing")
                    filled[key] = events[-1].stream_seq
                await self._write(part)
        if any(filled.get(key, 0) < self._sizes.get(key, 0) for key in keys):
            raise HoleError("the last events of a room are missing")
        return filled, cut

    async def _slices(self, keys: Sequence[RoomKey]) -> AsyncGenerator[_Slice, None]:
        part: _Slice = {}
        count = size = 0
        async with self._store.transaction(readonly=True):
            bounds = (*_columns(keys), LARGE_BYTES)
            async for row in self._store.cursor(_SQL["events_of"], *bounds, prefetch=_PREFETCH):
                key, seq = RoomKey(row["workspace_id"], row["room_id"]), row["stream_seq"]
                envelope = row["envelope"]
                if envelope is None:
                    envelope = await self._store.fetchval(_CHECKS["stored_envelope"], *key, seq)
                if envelope is None:
                    raise HoleError("an event of a room is gone")
                recorded = Recorded(seq, 0, envelope)
                full = max(count / SLICE_EVENTS, size / SLICE_BYTES)
                if full >= 1 or (full >= 0.5 and key not in part):
                    yield part
                    part, count, size = {}, 0, 0
                part.setdefault(key, []).append(recorded)
                count += 1
                size += len(envelope)
        if part:
            yield part

    async def _write(self, part: _Slice) -> None:
        rooms = [RoomEvents(key, events) for key, events in part.items()]
        for write in fold(PROJECTIONS[self._target.projection], rooms):
            if write.query == "runs_insert" and await self._store.fetch(_CHECKS["runs_of_others"], *write.columns[:3]):
                raise LookupError("a run is another room's")
            copy = COPIES.get(write.query)
            if copy is None:
                statement = _STATEMENTS[write.query].replace("_v1", f"_v{self._target.version}")
                if await self._projections.fetch(statement, *write.columns):
                    raise LookupError(f"{write.query} did not find what it should have changed")
                continue
            await copy_rows(self._projections, copy, write, self._target.version)
            if (check := _CHECK_OF.get(write.query)) is not None:
                await self._check(*check, write)

    async def _check(self, query: str, view: str, write: Write) -> None:
        """Holds rows against the values they were folded to, which take another way to PostgreSQL than by COPY."""
        statement = _CHECKS[query].replace(f"{view} as", f"{view}_v{self._target.version} as")
        for row in await self._projections.fetch(statement, *write.columns):
            what = "is missing" if row["missing"] else f"differs in {row['columns']}"
            raise WrongRowsError(f"{row['workspace_id']}/{row['room_id']}: {row[0]} {what}")


def _columns(keys: Sequence[RoomKey]) -> tuple[list[str], list[str]]:
    return [key.workspace_id for key in keys], [key.room_id for key in keys]


def _is_about_data(error: Exception) -> bool:
    """Whether the events are at fault, not a database that is away, nor this code."""
    if isinstance(error, asyncpg.PostgresError):
        return isinstance(
            error, asyncpg.DataError | asyncpg.IntegrityConstraintViolationError | asyncpg.ProgramLimitExceededError
        )
    return not isinstance(
        error, WrongRowsError | asyncpg.InterfaceError | asyncpg.InternalClientError | OSError | TimeoutError
    )
