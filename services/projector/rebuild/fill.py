"""Filling a new version from the event store, in the order of the rooms' keys.

Invariant: a page's rows, its rooms' applied seq and how far the fill has come are one transaction, so that a fill goes
on where it was ended. The stream's position was taken before the first read: what is read too little comes from there.
"""

import time
from collections.abc import AsyncGenerator, Callable, Collection
from contextlib import aclosing
from pathlib import Path
from typing import NamedTuple

import asyncpg

from services.projector.projections.base import Projection, Recorded, RoomEvents
from services.projector.rebuild.tables import COPIES, csv_rows
from services.projector.verify.rooms import Page, pages
from shared.contracts.ids import RoomKey
from shared.contracts.subjects import partition_of
from shared.postgres import Connection, load_queries

_SQL = load_queries(Path(__file__).parent / "sql")
_STATEMENTS = load_queries(Path(__file__).parents[1] / "sql")
_EVENTS = load_queries(Path(__file__).parents[1] / "verify" / "sql")["events_between"]

SLICE_EVENTS = 10_000
SLICE_BYTES = 32 * 1024 * 1024
_PREFETCH = 1000
_PROGRESS_SECONDS = 1.0

Say = Callable[[str], None]
_Slice = dict[RoomKey, list[Recorded]]


class Target(NamedTuple):
    """The version that is filled."""

    projection: Projection
    version: int
    name: str


class Fill:
    """``skips`` are left out; ``say`` takes the lines of progress."""

    def __init__(
        self,
        store: Connection,
        projections: Connection,
        target: Target,
        skips: Collection[tuple[str, str, int]],
        say: Say,
    ) -> None:
        self._store = store
        self._projections = projections
        self._target = target
        self._skips = frozenset(skips)
        self._say = say

    async def run(self, after: RoomKey, done: int) -> None:
        """Fills everything after the room ``after``. Raises one of ``STORE_ERRORS``."""
        total = await self._store.fetchval(_SQL["total_events"])
        started = said = time.monotonic()
        before = done
        async for page in pages(self._store, after):
            try:
                done += await self._page(page)
            except Exception as error:  # whatever the fold or PostgreSQL cannot take: the one room is found by itself
                if not _is_about_data(error):
                    raise
                done += await self._by_room(page)
            now = time.monotonic()
            if now - said >= _PROGRESS_SECONDS or page.upto is None:
                said = now
                rate = (done - before) / max(now - started, 0.001)
                left = max(total - done, 0) / rate if rate else 0.0
                share = 100 * done / total if total else 100.0
                self._say(f"filled {done} of {total} events ({share:.0f} %), {rate:.0f}/s, {left:.0f} s left")

    async def _by_room(self, page: Page) -> int:
        rows = await self._store.fetch(_ROOMS, *page.bounds)
        done = 0
        after = page.after
        for row in rows:
            key = RoomKey(row["workspace_id"], row["room_id"])
            try:
                done += await self._page(Page(after, key))
            except Exception as error:
                if not _is_about_data(error):
                    raise
                # Its events come to the workers, who apply what can be and park what cannot.
                self._say(f"left to the workers: {key.workspace_id}/{key.room_id} ({type(error).__name__})")
                await self._projections.execute(_SQL["fill_moved"], self._target.name, *key, 0)
            after = key
        return done

    async def _page(self, page: Page) -> int:
        """The number of events in it."""
        applied: dict[RoomKey, int] = {}
        done = 0
        # Closed at once when a write fails: the next page is read on the same connection.
        async with aclosing(self._slices(page)) as slices, self._projections.transaction():
            async for part in slices:
                for key, events in part.items():
                    applied[key] = events[-1].stream_seq
                    done += len(events)
                await self._write(part)
            if applied:
                await self._projections.execute(
                    _SQL["rooms_filled"],
                    self._target.name,
                    [key.workspace_id for key in applied],
                    [key.room_id for key in applied],
                    [partition_of(*key) for key in applied],
                    list(applied.values()),
                )
                await self._projections.execute(_SQL["fill_moved"], self._target.name, *max(applied), done)
        return done

    async def _slices(self, page: Page) -> AsyncGenerator[_Slice, None]:
        part: _Slice = {}
        count = size = 0
        async with self._store.transaction(isolation="repeatable_read", readonly=True):
            async for row in self._store.cursor(_EVENTS, *page.bounds, prefetch=_PREFETCH):
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
        for write in self._target.projection.fold(rooms):
            copy = COPIES.get(write.query)
            if copy is None:
                statement = _STATEMENTS[write.query].replace("_v1", f"_v{self._target.version}")
                if await self._projections.fetch(statement, *write.columns):
                    raise LookupError(f"{write.query} did not find what it should have changed")
                continue
            table = f"{copy.view}_v{self._target.version}"
            if copy.binary:
                await self._projections.copy_records_to_table(
                    table, records=zip(*write.columns, strict=True), columns=copy.all_columns
                )
            else:
                await self._projections.copy_to_table(
                    table, source=_chunks(csv_rows(copy, write.columns)), columns=copy.all_columns, format="csv"
                )


_ROOMS = load_queries(Path(__file__).parents[1] / "verify" / "sql")["rooms_between"]


async def _chunks(data: bytes) -> AsyncGenerator[bytes, None]:
    yield data


def _is_about_data(error: Exception) -> bool:
    """Whether the events are at fault, not a database that is away."""
    if isinstance(error, asyncpg.PostgresError):
        return isinstance(
            error, asyncpg.DataError | asyncpg.IntegrityConstraintViolationError | asyncpg.ProgramLimitExceededError
        )
    return not isinstance(error, asyncpg.InterfaceError | asyncpg.InternalClientError | OSError | TimeoutError)
