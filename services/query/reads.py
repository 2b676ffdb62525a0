"""Runs and steps as the projections hold them.

Invariant: one answer is one snapshot. What says how far a room is applied is read with the row or before it, never
after, so an answer is never older than the position it is judged by. JSON columns pass through as the bytes they are.
"""

import asyncio
from collections.abc import Generator
from contextlib import contextmanager, suppress
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Final, NamedTuple

import asyncpg
import msgspec
import structlog
from msgspec import Meta, Raw, Struct

from services.query.batched import Batched
from services.query.joined import Joined
from services.query.paging import RunPosition
from services.query.statement import OptionalStatement
from shared.contracts.forms import TIME_PATTERN, CorrelationId, EventId, RunId, StepId, StreamSeq, Token
from shared.contracts.times import format_time
from shared.http.backlog import Backlog
from shared.postgres import STORE_ERRORS, Pool, load_queries
from shared.telemetry import Logger

_SQL: Final = load_queries(Path(__file__).parent / "sql")
_LOOK_UPS_TOGETHER: Final = 32
_SMALL_BYTES: Final = 8 * 1024
"""As stored, and so 0.7 MB at the most (``pglz``). A run that is larger, of which some have 8 MB, is read by itself."""
_ANY_BYTES: Final = 2**31 - 1
_PAGE_BYTES: Final = 4 * 1024 * 1024
"""A page has no more rows than it takes to come to this."""
_LISTS_AT_ONCE: Final = 5
_STEPS_AT_ONCE: Final = 2
_LOOK_UPS_AT_ONCE: Final = 2
_LARGE_AT_ONCE: Final = 1
"""Together no more than a pool has connections: a pool may give one to whoever asks last, turns are taken in order.
Large runs are read from the pool of planned lists."""
_CHECK_SECONDS: Final = 5.0
_LIST_RUNS: Final = OptionalStatement(_SQL["list_runs"])
_LIST_TAGGED_RUNS: Final = OptionalStatement(_SQL["list_tagged_runs"])


class StoreUnavailableError(Exception):
    """PostgreSQL is away, or did not answer in time."""


class ReadsOverloadedError(Exception):
    """There are more reads under way than may queue, or more answers that were not taken than may be kept."""


RunStatus = Annotated[str, Meta(extra_json_schema={"enum": ["queued", "running", "succeeded", "failed"]})]
StepStatus = Annotated[str, Meta(extra_json_schema={"enum": ["queued"]})]
Moment = Annotated[datetime, Meta(description="UTC, microseconds.", extra_json_schema={"pattern": TIME_PATTERN})]
RawObject = Annotated[Raw, Meta(extra_json_schema={"type": "object"})]
"""What a column holds: an object, ``{}`` when nothing was given."""


class Run(Struct, frozen=True):
    """To be encoded: a time is text where the encoder would not write it as the contract does, see ``_time``."""

    run_id: RunId
    workspace_id: Token
    room_id: Token
    thread_id: Token | None
    status: RunStatus
    title: str | None
    goal: str | None
    input: RawObject
    output: RawObject
    error: RawObject
    summary: str | None
    tags: list[str]
    created_at: Moment
    started_at: Moment | None
    ended_at: Moment | None
    updated_at: Moment
    correlation_id: CorrelationId
    last_event_id: EventId
    stream_seq: StreamSeq


class Step(Struct, frozen=True):
    """To be encoded, as ``Run``."""

    step_id: StepId
    run_id: RunId
    workspace_id: Token
    room_id: Token
    thread_id: Token | None
    kind: str
    status: StepStatus
    title: str | None
    input: RawObject
    output: RawObject
    error: RawObject
    created_at: Moment
    updated_at: Moment
    last_event_id: EventId
    stream_seq: StreamSeq


class RunFilters(Struct, frozen=True, kw_only=True):
    """Which runs of a workspace; every member that is given must hold. The times are exclusive."""

    room_id: str | None = None
    thread_id: str | None = None
    statuses: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    correlation_id: str | None = None
    created_after: datetime | None = None
    created_before: datetime | None = None


class RunRead(NamedTuple):
    """``run`` is None when there is no such run; ``applied_seq`` is its room's position then 0."""

    room_id: str | None
    applied_seq: int
    run: Run | None


class StepsRead(NamedTuple):
    """``steps`` is None when there is no such run; ``has_more`` if others come after them."""

    room_id: str | None
    applied_seq: int
    steps: list[Step] | None
    has_more: bool


NO_RUN: Final = RunRead(None, 0, None)
NO_STEPS: Final = StepsRead(None, 0, None, has_more=False)


_LARGE_RUN: Final = RunRead(None, -1, None)
"""There is one, which has not been read."""


class RunsPage(NamedTuple):
    """``runs`` is a JSON array; ``last`` is where the next page goes on, None when there is none."""

    runs: Raw
    last: RunPosition | None


class _RunList(NamedTuple):
    """What makes two lists the same."""

    workspace_id: str
    filters: RunFilters
    after: RunPosition | None
    limit: int
    rooms: tuple[str, ...] | None


class _StepList(NamedTuple):
    workspace_id: str
    run_id: str
    after: int
    limit: int


class Reads:
    """Reads of the projections. They raise ``StoreUnavailableError`` and ``ReadsOverloadedError``.

    ``pool`` keeps one plan for each statement, ``planned`` makes one for the values each time: between several filters
    it is those that decide which index is right. Nothing is read while the ``backlog`` of answers has no room.
    """

    def __init__(self, pool: Pool, planned: Pool, backlog: Backlog, *, limit: int) -> None:
        self._pool = pool
        self._planned = planned
        self._backlog = backlog
        self._limit = limit
        self._under_way = 0
        self._is_well = True
        self._log: Logger = structlog.get_logger("reads")
        self._runs = Batched(self._look_up_runs, most=_LOOK_UPS_TOGETHER, at_once=_LOOK_UPS_AT_ONCE)
        self._large_runs = Joined(self._read_large_run, at_once=_LARGE_AT_ONCE)
        self._rooms = Batched(self._look_up_rooms, most=_LOOK_UPS_TOGETHER, at_once=1)
        self._steps = Joined(self._list_steps, at_once=_STEPS_AT_ONCE)
        self._lists = Joined(partial(self._list_runs, pool), at_once=_LISTS_AT_ONCE)
        self._planned_lists = Joined(partial(self._list_runs, planned), at_once=_LISTS_AT_ONCE)

    async def check(self) -> str:
        """For readiness. Raises one of ``STORE_ERRORS`` as it is: its name says what is wrong."""
        try:
            await self._pool.fetch("select 1")
        except STORE_ERRORS as error:
            if self._is_well:
                self._log.warning("projection_store_unavailable", error=type(error).__name__)
            self._is_well = False
            raise
        if not self._is_well:
            self._log.info("projection_store_available")
        self._is_well = True
        return "answers"

    async def watch(self) -> None:
        """Asks the database now and then, so that the log says what is wrong before somebody reads. Never returns."""
        while True:
            with suppress(*STORE_ERRORS):
                await self.check()
            await asyncio.sleep(_CHECK_SECONDS)

    async def run(self, workspace_id: str, run_id: str) -> RunRead:
        key = (workspace_id, run_id)
        with self._admitted():
            read = await self._runs.get(key) or NO_RUN
            return await self._large_runs.get(key) if read is _LARGE_RUN else read

    async def steps(self, workspace_id: str, run_id: str, after: int, limit: int) -> StepsRead:
        """Up to ``limit`` steps whose ``stream_seq`` is greater than ``after``, oldest first."""
        with self._admitted():
            return await self._steps.get(_StepList(workspace_id, run_id, after, limit))

    async def runs(
        self,
        workspace_id: str,
        filters: RunFilters,
        after: RunPosition | None,
        limit: int,
        rooms: tuple[str, ...] | None = None,
    ) -> RunsPage:
        """Up to ``limit`` runs, newest first, that come after the position; of these ``rooms`` only, if given."""
        # With one filter there is one index for it, in order; planning again and again would only take time. Lists
        # with tags find their way by themselves.
        chosen = sum(map(bool, (filters.room_id or rooms, filters.thread_id, filters.correlation_id, filters.statuses)))
        lists = self._planned_lists if chosen > 1 else self._lists
        with self._admitted():
            return await lists.get(_RunList(workspace_id, filters, after, limit, rooms))

    async def applied_seq(self, workspace_id: str, room_id: str) -> int:
        """How far the room's runs are applied; 0 for a room that is not known."""
        with self._admitted():
            return await self._rooms.get((workspace_id, room_id)) or 0

    @contextmanager
    def _admitted(self) -> Generator[None, None, None]:
        if self._under_way >= self._limit or not self._backlog.has_room():
            raise ReadsOverloadedError
        self._under_way += 1
        try:
            yield
        finally:
            self._under_way -= 1
        # Many may have waited for the same page, and each makes an answer of it.
        if not self._backlog.has_room():
            raise ReadsOverloadedError

    async def _look_up_runs(self, keys: list[tuple[str, str]]) -> dict[tuple[str, str], RunRead]:
        rows = await _fetch(self._pool, _SQL["get_runs"], *_columns(keys), _SMALL_BYTES)
        return {(row["workspace_id"], row["run_id"]): _run_read(row) for row in rows}

    async def _read_large_run(self, key: tuple[str, str]) -> RunRead:
        if not self._backlog.has_room():  # since it was asked for
            raise ReadsOverloadedError
        rows = await _fetch(self._planned, _SQL["get_runs"], *_columns([key]), _ANY_BYTES)
        return _run_read(rows[0]) if rows else NO_RUN

    async def _look_up_rooms(self, keys: list[tuple[str, str]]) -> dict[tuple[str, str], int | None]:
        rows = await _fetch(self._pool, _SQL["rooms_applied"], *_columns(keys))
        return {(row["workspace_id"], row["room_id"]): row["applied_seq"] for row in rows}

    async def _list_steps(self, wanted: _StepList) -> StepsRead:
        workspace_id, run_id, after, limit = wanted
        rows = await _fetch(self._pool, _SQL["get_steps"], workspace_id, run_id, after, limit + 1, _PAGE_BYTES)
        if not rows:
            return NO_STEPS
        first = rows[0]
        steps = [_step(row) for row in rows[:limit] if row[0] is not None]
        return StepsRead(first["room_id"], first["applied_seq"], steps, bool(rows[:limit][-1]["has_more"]))

    async def _list_runs(self, pool: Pool, wanted: _RunList) -> RunsPage:
        filters, limit = wanted.filters, wanted.limit
        given: dict[str, object] = {"workspace_id": wanted.workspace_id, "limit": limit + 1, "bytes": _PAGE_BYTES}
        # A scan for each of several statuses; all of them are no filter.
        if len(filters.statuses) == 1:
            given["status"] = filters.statuses[0]
        elif filters.statuses:
            given["statuses"] = list(filters.statuses)
        for name in ("room_id", "thread_id", "correlation_id", "created_after", "created_before"):
            if (value := getattr(filters, name)) is not None:
                given[name] = value
        if filters.tags:
            given["tags"] = list(filters.tags)
        if wanted.rooms is not None:
            given["rooms"] = list(wanted.rooms)
        if wanted.after is not None:
            given["last_created_at"], given["last_run_id"] = wanted.after
        text, values = (_LIST_TAGGED_RUNS if filters.tags else _LIST_RUNS).bind(given)
        rows = await _fetch(pool, text, *values)
        last = None
        page = rows[:limit]
        if page and page[-1]["has_more"]:
            last = RunPosition(page[-1]["created_at"], page[-1]["run_id"])
        return RunsPage(Raw(_encode([_run(row) for row in page])), last)


async def _fetch(pool: Pool, text: str, *values: object) -> list[asyncpg.Record]:
    try:
        return await pool.fetch(text, *values)
    except STORE_ERRORS as error:
        raise StoreUnavailableError(type(error).__name__) from error


def _columns(keys: list[tuple[str, str]]) -> tuple[list[str], list[str]]:
    return [key[0] for key in keys], [key[1] for key in keys]


_encode = msgspec.json.Encoder().encode


def encode_page(name: str, rows: list[Step] | Raw, next_cursor: str | None) -> bytes:
    """The body of a list: ``{name: rows, "next_cursor": …}``."""
    return _encode({name: rows, "next_cursor": next_cursor})


def _time(moment: datetime | None) -> Any:
    # Written by the encoder, which takes no time at all, but for a fraction of 0, which it would leave out.
    return moment if moment is None or moment.microsecond else format_time(moment)


def _run(row: asyncpg.Record) -> Run:
    # The statement names its columns in the order of the struct.
    (
        run_id, workspace_id, room_id, thread_id, status, title, goal, given, output, error, summary, tags, created_at,
        started_at, ended_at, updated_at, correlation_id, last_event_id, stream_seq, *_,
    ) = row  # fmt: skip
    return Run(
        run_id, workspace_id, room_id, thread_id, status, title, goal, Raw(given), Raw(output), Raw(error), summary,
        tags, _time(created_at), _time(started_at), _time(ended_at), _time(updated_at), correlation_id, last_event_id,
        stream_seq,
    )  # fmt: skip


def _run_read(row: asyncpg.Record) -> RunRead:
    is_read = row["input"] is not None
    return RunRead(row["room_id"], row["applied_seq"], _run(row)) if is_read else _LARGE_RUN


def _step(row: asyncpg.Record) -> Step:
    return Step(
        row[0], row[1], row[2], row[3], row[4], row[5], row[6], row[7], Raw(row[8]), Raw(row[9]), Raw(row[10]),
        _time(row[11]), _time(row[12]), row[13], row[14],
    )  # fmt: skip
