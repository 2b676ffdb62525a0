"""Runs and steps as the projections hold them.

Invariant: one answer is one snapshot. What says how far a room is applied is read with the row or before it, never
after, so an answer is never older than the position it is judged by. JSON columns pass through as the bytes they are.
"""

from datetime import datetime
from pathlib import Path
from typing import Any, Final, NamedTuple

import asyncpg
import msgspec
from msgspec import Raw, Struct

from services.query.batched import Batched
from services.query.paging import RunPosition
from services.query.statement import OptionalStatement
from shared.contracts.times import format_time
from shared.postgres import STORE_ERRORS, Pool, load_queries

_SQL: Final = load_queries(Path(__file__).parent / "sql")
_RUNS_AT_ONCE: Final = 100
_LIST_RUNS: Final = OptionalStatement(_SQL["list_runs"])


class StoreUnavailableError(Exception):
    """PostgreSQL is away, or did not answer in time."""


class ReadsOverloadedError(Exception):
    """There are more reads under way than may queue."""


class Run(Struct, frozen=True):
    run_id: str
    workspace_id: str
    room_id: str
    thread_id: str | None
    status: str
    title: str | None
    goal: str | None
    input: Raw
    output: Raw
    error: Raw
    summary: str | None
    tags: list[str]
    created_at: str
    started_at: str | None
    ended_at: str | None
    updated_at: str
    correlation_id: str
    last_event_id: str
    stream_seq: int


class Step(Struct, frozen=True):
    step_id: str
    run_id: str
    workspace_id: str
    room_id: str
    thread_id: str | None
    kind: str
    status: str
    title: str | None
    input: Raw
    output: Raw
    error: Raw
    created_at: str
    updated_at: str
    last_event_id: str
    stream_seq: int


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
    """``steps`` is None when there is no such run."""

    room_id: str | None
    applied_seq: int
    steps: list[Step] | None


class RunsPage(NamedTuple):
    """``last`` is where the next page goes on, None when there is none."""

    runs: list[Run]
    last: RunPosition | None


class Reads:
    """Reads of the projections. Every method raises ``StoreUnavailableError`` and ``ReadsOverloadedError``.

    ``planned`` is a pool whose statements are planned for their values each time: between several filters it is those
    that decide which index is right.
    """

    def __init__(self, pool: Pool, planned: Pool, *, limit: int) -> None:
        self._pool = pool
        self._planned = planned
        self._limit = limit
        self._under_way = 0
        self._runs = Batched(self._look_up_runs, most=_RUNS_AT_ONCE, at_once=2)

    async def check(self) -> str:
        """For readiness."""
        await self._fetch(self._pool, "select 1")
        return "answers"

    async def run(self, workspace_id: str, run_id: str) -> RunRead:
        if self._runs.waiting >= self._limit:
            raise ReadsOverloadedError
        return await self._runs.get((workspace_id, run_id)) or RunRead(None, 0, None)

    async def steps(self, workspace_id: str, run_id: str, after: int, limit: int) -> StepsRead:
        """Up to ``limit`` steps whose ``stream_seq`` is greater than ``after``, oldest first."""
        rows = await self._fetch(self._pool, _SQL["get_steps"], workspace_id, run_id, after, limit)
        if not rows:
            return StepsRead(None, 0, None)
        steps = [_step(row) for row in rows if row[0] is not None]
        return StepsRead(rows[0]["room_id"], rows[0]["applied_seq"], steps)

    async def runs(self, workspace_id: str, filters: RunFilters, after: RunPosition | None, limit: int) -> RunsPage:
        """Up to ``limit`` runs, newest first, that come after the position."""
        given: dict[str, object] = {"workspace_id": workspace_id, "limit": limit + 1}
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
        if after is not None:
            given["last_created_at"], given["last_run_id"] = after
        text, values = _LIST_RUNS.bind(given)
        # With one filter there is one index for it, in order; planning again and again would only take time.
        chosen = sum(map(bool, (filters.room_id, filters.thread_id, filters.correlation_id, filters.statuses)))
        rows = await self._fetch(self._planned if filters.tags or chosen > 1 else self._pool, text, *values)
        more = len(rows) > limit
        rows = rows[:limit]
        last = RunPosition(rows[-1]["created_at"], rows[-1]["run_id"]) if more else None
        return RunsPage([_run(row) for row in rows], last)

    async def applied_seq(self, workspace_id: str, room_id: str) -> int:
        """How far the room's runs are applied; 0 for a room that is not known."""
        rows = await self._fetch(self._pool, _SQL["room_applied"], workspace_id, room_id)
        return rows[0][0] if rows else 0

    async def _look_up_runs(self, keys: list[tuple[str, str]]) -> dict[tuple[str, str], RunRead]:
        rows = await self._fetch(self._pool, _SQL["get_runs"], [key[0] for key in keys], [key[1] for key in keys])
        return {
            (row["workspace_id"], row["run_id"]): RunRead(row["room_id"], row["applied_seq"], _run(row)) for row in rows
        }

    async def _fetch(self, pool: Pool, text: str, *values: object) -> list[asyncpg.Record]:
        if self._under_way >= self._limit:
            raise ReadsOverloadedError
        self._under_way += 1
        try:
            return await pool.fetch(text, *values)
        except STORE_ERRORS as error:
            raise StoreUnavailableError(type(error).__name__) from error
        finally:
            self._under_way -= 1


def encode_page(name: str, rows: list[Any], next_cursor: str | None) -> bytes:
    """The body of a list: ``{name: rows, "next_cursor": …}``."""
    return msgspec.json.encode({name: rows, "next_cursor": next_cursor})


def _optional_time(moment: datetime | None) -> str | None:
    return None if moment is None else format_time(moment)


def _run(row: asyncpg.Record) -> Run:
    # By position: the statement names its columns in the order of the struct.
    return Run(
        row[0], row[1], row[2], row[3], row[4], row[5], row[6], Raw(row[7]), Raw(row[8]), Raw(row[9]), row[10], row[11],
        format_time(row[12]), _optional_time(row[13]), _optional_time(row[14]), format_time(row[15]), row[16], row[17],
        row[18],
    )  # fmt: skip


def _step(row: asyncpg.Record) -> Step:
    return Step(
        row[0], row[1], row[2], row[3], row[4], row[5], row[6], row[7], Raw(row[8]), Raw(row[9]), Raw(row[10]),
        format_time(row[11]), format_time(row[12]), row[13], row[14],
    )  # fmt: skip
