"""The rooms in key order: the store's own numbers, and both projections against it.

Invariant: a page of rooms is seen in one snapshot of the projections and a later one of the event store, so that
everything projected must be in what the store is seen to hold.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import asyncpg

from services.projector.projections.base import Recorded, RoomEvents, Write
from services.projector.projections.runs import Changes
from services.projector.verify.report import Report
from shared.contracts.ids import RoomKey
from shared.postgres import Connection, load_queries

_SQL = load_queries(Path(__file__).parent / "sql")

PAGE_ROOMS = 500
PAGE_EVENTS = 20_000
"""A page ends with the room that reaches it."""
LARGE_BYTES = 128 * 1024
"""What is larger is asked for by itself: an envelope may have 16 MiB, and a cursor brings so many rows at a time."""
_FOLDED_BYTES = 32 * 1024 * 1024
"""Of events whose rows are compared together. The last room's come with them, however many they are."""
_CHUNK_ROWS = 1000
_CHUNK_BYTES = 16 * 1024 * 1024
_PREFETCH = 100
_START = RoomKey("", "")
_RUNS, _FEED = "runs", "room_feed"

_Known = dict[str, set[tuple[RoomKey, str]]]
"""Ids of rows that there should be, by table."""


class Seen(NamedTuple):
    """A room as one page saw it; ``applied`` and ``skipped`` are by projection."""

    last_seq: int
    published_seq: int
    applied: dict[str, int]
    skipped: dict[str, set[int]]
    parked: dict[str, int]

    def holds(self, projection: str, seq: int) -> bool:
        """Whether the projection must hold the event."""
        return seq <= self.applied.get(projection, 0) and seq not in self.skipped.get(projection, ())


class Page(NamedTuple):
    """The rooms after one key and up to another; ``upto`` is None for the end."""

    after: RoomKey
    upto: RoomKey | None

    @property
    def bounds(self) -> tuple[str, str, str | None, str | None]:
        workspace_id, room_id = self.upto or (None, None)
        return (self.after.workspace_id, self.after.room_id, workspace_id, room_id)

    def holds(self, key: RoomKey) -> bool:
        return self.after < key and (self.upto is None or key <= self.upto)


async def pages(store: Connection, after: RoomKey = _START) -> AsyncGenerator[Page, None]:
    """The rooms after one in pages of a bounded number of rooms and, but for the last room of each, of events."""
    while True:
        events = 0
        last: RoomKey | None = None
        rows = await store.fetch(_SQL["rooms_page"], *after, PAGE_ROOMS)
        for row in rows:
            last = RoomKey(row["workspace_id"], row["room_id"])
            events += row["last_seq"]
            if events >= PAGE_EVENTS:
                break
        if last is None or (len(rows) < PAGE_ROOMS and events < PAGE_EVENTS):
            yield Page(after, None)
            return
        yield Page(after, last)
        after = last


@asynccontextmanager
async def snapshot(connection: Connection) -> AsyncGenerator[None, None]:
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        # A snapshot begins with the first statement, not with the transaction.
        await connection.execute("select 1")
        yield


class RoomsCheck:
    """Compares page by page, on connections of its own."""

    def __init__(self, store: Connection, projections: Connection, report: Report) -> None:
        self._store = store
        self._projections = projections
        self._report = report

    async def compare(self, page: Page) -> dict[RoomKey, Seen]:
        """The rooms of the page, once they are compared. Raises one of ``STORE_ERRORS``."""
        async with snapshot(self._projections), snapshot(self._store):
            rooms = await self._rooms(page)
            await self._nothing_else(page, await self._events(page, rooms))
        return rooms

    async def run_states(self, page: Page) -> None:
        """Compares the state by which commands are decided with the events. Raises one of ``STORE_ERRORS``."""
        for row in await self._store.fetch(_SQL["run_states_differing"], *page.bounds):
            self._report.differs(_key(row), "store", f"the state of {row['run_id']} is not what its events say")

    async def runs_of_no_event(self) -> None:
        """A command on such a run would be taken, and no projection could apply it. Raises one of ``STORE_ERRORS``."""
        for row in await self._store.fetch(_SQL["runs_of_no_event"]):
            self._report.differs(_key(row), "store", f"the last event of {row['run_id']} is not there")

    async def steps_of_no_run(self) -> None:
        for row in await self._projections.fetch(_SQL["steps_of_no_run"]):
            self._report.differs(_key(row), _RUNS, f"{row['step_id']} is a step of no run")

    async def tags_of_runs(self) -> None:
        for row in await self._projections.fetch(_SQL["run_tags_differing"]):
            self._report.differs(_key(row), _RUNS, f"{row['run_id']} is listed by other tags than it has")

    async def _rooms(self, page: Page) -> dict[RoomKey, Seen]:
        rooms = {
            _key(row): Seen(row["last_seq"], row["published_seq"], {}, {}, {})
            for row in await self._store.fetch(_SQL["rooms_between"], *page.bounds)
        }
        for row in await self._projections.fetch(_SQL["applied_between"], *page.bounds, [_RUNS, _FEED]):
            key, projection, applied = _key(row), row["projection"], row["applied_seq"]
            if (seen := rooms.get(key)) is None:
                self._report.differs(key, projection, "the event store has no such room")
            elif applied > seen.last_seq:
                self._report.differs(key, projection, f"applied up to {applied}, stored up to {seen.last_seq}")
            elif applied < 0:
                self._report.differs(key, projection, f"applied up to {applied}")
            if seen is not None:
                seen.applied[projection] = max(applied, 0)
        for row in await self._projections.fetch(_SQL["parked_between"], *page.bounds):
            projection = row["projection"]
            if row["skipped"]:
                self._report.skipped[projection] = self._report.skipped.get(projection, 0) + 1
            seen = rooms.get(_key(row))
            if seen is None:
                continue
            if row["skipped"]:
                seen.skipped.setdefault(projection, set()).add(row["stream_seq"])
            else:
                seen.parked[projection] = row["stream_seq"]
                self._report.differs(_key(row), projection, f"event {row['stream_seq']} is parked")
        return rooms

    async def _events(self, page: Page, rooms: dict[RoomKey, Seen]) -> _Known:
        """Compares the room feed with the store, and the rows of runs with a fresh fold. The ids of those."""
        changes = Changes()
        folded = 0
        known: _Known = {"runs": set(), "steps": set()}
        bounds = (*page.bounds, LARGE_BYTES)
        feed = _Peeked(aiter(self._projections.cursor(_SQL["feed_between"], *bounds, prefetch=_PREFETCH)))
        heads: dict[RoomKey, int] = {}
        stuck: set[RoomKey] = set()
        async for row in self._store.cursor(_SQL["events_between"], *bounds, prefetch=_PREFETCH):
            key, seq = _key(row), row["stream_seq"]
            envelope = row["envelope"] or await self._store.fetchval(_SQL["stored_envelope"], *key, seq)
            head = heads.get(key, 0)
            if folded >= _FOLDED_BYTES and key not in heads:
                await self._rows(changes, known)
                changes, folded = Changes(), 0
            if seq != head + 1:
                self._report.differs(key, "store", f"event {seq} follows on event {head}")
            heads[key] = seq
            seen = rooms.get(key)
            if seen is None:
                if head == 0:
                    self._report.differs(key, "store", "there are events of a room that is not there")
                continue
            await self._feed_until(feed, (key.workspace_id, key.room_id, seq))
            if seen.holds(_FEED, seq):
                await self._feed_holds(feed, key, seq, envelope)
            if seen.holds(_RUNS, seq) and key not in stuck:
                try:
                    changes.add(RoomEvents(key, (Recorded(seq, 0, envelope),)))
                    folded += len(envelope)
                except Exception as error:  # whatever the fold cannot take
                    stuck.add(key)
                    self._report.differs(key, _RUNS, f"event {seq} cannot be folded: {type(error).__name__}")
        await self._feed_until(feed, None)
        for key, seen in rooms.items():
            self._report.events += seen.last_seq
            if heads.get(key, 0) != seen.last_seq:
                what = f"the room counts {seen.last_seq} events, the last one stored is {heads.get(key, 0)}"
                self._report.differs(key, "store", what)
        self._report.rooms += len(rooms)
        await self._rows(changes, known)
        return known

    async def _feed_until(self, feed: "_Peeked", place: tuple[str, str, int] | None) -> None:
        """Everything in the feed before ``place`` is too much; at the place it may be, if the caller asks for it."""
        while (row := await feed.peek()) is not None:
            if place is not None and (row["workspace_id"], row["room_id"], row["stream_seq"]) >= place:
                return
            self._report.differs(_key(row), _FEED, f"event {row['stream_seq']} should not be there")
            feed.take()

    async def _feed_holds(self, feed: "_Peeked", key: RoomKey, seq: int, envelope: bytes) -> None:
        row = await feed.peek()
        if row is None or (row["workspace_id"], row["room_id"], row["stream_seq"]) != (*key, seq):
            self._report.differs(key, _FEED, f"event {seq} is missing")
            return
        held = row["envelope"] or await self._projections.fetchval(_SQL["fed_envelope"], *key, seq)
        if held != envelope:
            self._report.differs(key, _FEED, f"event {seq} has other bytes than the one stored")
        feed.take()

    async def _rows(self, changes: Changes, known: _Known) -> None:
        for write in changes.writes():
            table, _, kind = write.query.partition("_")
            ids, keys = write.columns[0], _keys(write)
            if kind != "insert":
                for run_id, key in zip(ids, keys, strict=True):
                    self._report.differs(key, _RUNS, f"{run_id} has events there and was never created there")
                continue
            known[table].update(zip(keys, ids, strict=True))
            for chunk in _chunks(write):
                for row in await self._projections.fetch(_SQL[f"{table}_differing"], *chunk):
                    what = "is missing" if row["missing"] else f"differs in {row['columns']}"
                    self._report.differs(_key(row), _RUNS, f"{row[0]} {what}")
                if table == "runs":
                    for row in await self._store.fetch(_SQL["runs_of_others"], *chunk[:3]):
                        self._report.differs(_key(row), _RUNS, f"{row['run_id']} is a run of another room")

    async def _nothing_else(self, page: Page, known: _Known) -> None:
        for table, ids in known.items():
            async for row in self._projections.cursor(_SQL[f"{table}_between"], *page.bounds, prefetch=_CHUNK_ROWS):
                if (_key(row), row[0]) not in ids:
                    self._report.differs(_key(row), _RUNS, f"{row[0]} should not be there")


class _Peeked:
    """A cursor's rows, of which the next one can be looked at before it is taken."""

    def __init__(self, rows: AsyncIterator[asyncpg.Record]) -> None:
        self._rows = rows
        self._row: asyncpg.Record | None = None

    async def peek(self) -> asyncpg.Record | None:
        if self._row is None:
            self._row = await anext(self._rows, None)
        return self._row

    def take(self) -> None:
        self._row = None


def _chunks(write: Write) -> Iterator[list[list[Any]]]:
    """The columns of some rows at a time, of a bounded number and, but for the last one, size."""
    start = size = 0
    for end, row in enumerate(zip(*write.columns, strict=True), 1):
        size += sum(len(value) for value in row if isinstance(value, str))
        if end - start == _CHUNK_ROWS or size >= _CHUNK_BYTES or end == len(write.columns[0]):
            yield [column[start:end] for column in write.columns]
            start, size = end, 0


def _keys(write: Write) -> Sequence[RoomKey]:
    """The rooms of a write's rows."""
    workspaces, rooms = (write.columns[at] for at in ((2, 3) if write.query == "steps_insert" else (1, 2)))
    return list(map(RoomKey, workspaces, rooms))


def _key(row: asyncpg.Record) -> RoomKey:
    return RoomKey(row["workspace_id"], row["room_id"])
