"""B12: pages of 50 with every filter and some of their combinations, at 10,000 runs and at 5,000,000; one caller.

What each list must hold is asked of the table directly, in words of its own.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from typing import NamedTuple

import asyncpg
import msgspec

from bench.harness import Contestant, Figures, Measure, Scenario, Setting, Target
from bench.load import Plan, run_load
from bench.load.http import fetch
from bench.population import fill_runs
from bench.stack import Stack, running_stack
from deploy.local.service import ROOT
from shared.postgres import migrate

_FEW, _MANY = 10_000, 5_000_000
_LIMIT = 50


class _Filter(NamedTuple):
    """A list as the service is asked for it, and the condition for its rows in SQL."""

    name: str
    query: str
    condition: str


_ROOM = ("room_id=room_7", "room_id = 'room_7'")
_LOBBY = ("room_id=lobby", "room_id = 'lobby'")
_THREAD = ("thread_id=thread_7", "thread_id = 'thread_7'")
_RUNNING = ("status=running", "status = 'running'")
_SUCCEEDED = ("status=succeeded", "status = 'succeeded'")
_ENDED = ("status=failed&status=succeeded", "status in ('failed', 'succeeded')")
_OPS = ("tag=ops", "'ops' = any (tags)")
_NIGHTLY = ("tag=nightly", "'nightly' = any (tags)")
_INCIDENT = ("tag=incident", "'incident' = any (tags)")
_TEAM = ("tag=team_7", "'team_7' = any (tags)")
_CORRELATION = "9bf31c7f-f062-936a-96d3-c8bd1f8f2ff3"  # md5 of 15: the runs 75 to 79
_AFTER = ("created_after=2026-10-01T00:00:00Z", "created_at > '2026-10-01T00:00:00Z'")
_BEFORE = ("created_before=2025-12-01T00:00:00Z", "created_at < '2025-12-01T00:00:00Z'")
_UNTIL = ("created_before=2026-10-08T00:00:00Z", "created_at < '2026-10-08T00:00:00Z'")


def _both(name: str, *parts: tuple[str, str]) -> _Filter:
    queries, conditions = zip(*parts, strict=True)
    return _Filter(name, "&".join(queries), " and ".join(conditions))


_FILTERS = (
    _Filter("none", "", "true"),
    _both("room", _ROOM),
    _both("large room", _LOBBY),
    _both("thread", _THREAD),
    _both("rare status", _RUNNING),
    _both("common status", _SUCCEEDED),
    _both("two statuses", _ENDED),
    _both("common tag", _OPS),
    _both("tag of 1 %", _NIGHTLY),
    _both("rare tag", _INCIDENT),
    _both("two tags", _OPS, _TEAM),
    _Filter("correlation", f"correlation_id={_CORRELATION}", f"correlation_id = '{_CORRELATION}'"),
    _both("after", _AFTER),
    _both("before", _BEFORE),
    _both("between", _AFTER, _UNTIL),
    _both("room + status", _LOBBY, _RUNNING),
    _both("room + tag", _LOBBY, _NIGHTLY),
    _both("thread + status", _THREAD, _SUCCEEDED),
    _both("status + tag", _RUNNING, _OPS),
    _both("status + rare tag", _SUCCEEDED, _INCIDENT),
    _both("tag + after", _NIGHTLY, _AFTER),
    _both("statuses + before", _ENDED, _BEFORE),
    _both("all", _LOBBY, _SUCCEEDED, _OPS, _AFTER, _UNTIL),
)


async def _lists(dsn: str, port: int) -> dict[str, tuple[str, str]]:
    """Path and body of each list, by the filter's name. Raises ``AssertionError`` when one holds other runs."""
    lists: dict[str, tuple[str, str]] = {}
    connection = await asyncpg.connect(dsn)
    try:
        for name, query, condition in _FILTERS:
            path = f"/v1/runs?limit={_LIMIT}" + (f"&{query}" if query else "")
            body = await fetch(port, path)
            rows = await connection.fetch(
                f"select run_id from proj_runs where workspace_id = 'bench' and {condition}"
                f" order by created_at desc, run_id desc limit {_LIMIT + 1}"
            )
            expected = [row["run_id"] for row in rows]
            assert expected, f"{name}: nothing to list"
            page = msgspec.json.decode(body)
            assert [run["run_id"] for run in page["runs"]] == expected[:_LIMIT], f"{name}: another list"
            assert (page["next_cursor"] is not None) == (len(expected) > _LIMIT), f"{name}: another end"
            lists[name] = (path, body)
    finally:
        await connection.close()
    return lists


def _pages(port: int, lists: dict[str, tuple[str, str]]) -> Measure:
    async def measure(seconds: float) -> Figures:
        paths, bodies = map(list, zip(*lists.values(), strict=True))
        counted = await run_load(Plan(kind="get", port=port, seconds=seconds, callers=1, paths=paths, bodies=bodies))
        return {
            "p50 ms": counted.p50,
            "p99 ms": counted.p99,
            **{f"p50 ms {name}": counted.by_path[path] for name, (path, _) in lists.items()},
        }

    return measure


async def _contestant(stack: Stack, name: str, runs: int) -> Contestant:
    database = f"runs_{runs}"
    await asyncio.to_thread(stack.postgres.execute, f"create database {database}")
    dsn = stack.postgres.dsn(database)
    await migrate(dsn, ROOT / "services" / "projector" / "migrations")
    await fill_runs(dsn, runs)
    query = await stack.service("query", PROJECTION_DSN=stack.postgres.dsn(database, "runroom_query"))
    return Contestant(name, "runroom", _pages(query.port, await _lists(dsn, query.port)))


@contextlib.asynccontextmanager
async def _open(setting: Setting) -> AsyncGenerator[list[Contestant], None]:
    async with running_stack(setting.folder) as stack:
        yield [
            await _contestant(stack, "Runroom, 10,000 runs", _FEW),  # fewer, and some lists are empty
            await _contestant(stack, "Runroom, 5,000,000 runs", round(_MANY * setting.size)),
        ]


SCENARIO = Scenario(
    "B12",
    "a list of 50 with every filter, at 10,000 and at 5,000,000 runs",
    _open,
    (Target("p99 ms", "Runroom, 5,000,000 runs", "at most", 1.5, "Runroom, 10,000 runs"),),
)
