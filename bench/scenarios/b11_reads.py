"""B11: one run, and a page of 50, by 64 callers; beside a GET with nothing behind it that gives the same bytes."""

import contextlib
from collections.abc import AsyncGenerator

import asyncpg

from bench.harness import Contestant, Figures, Measure, Scenario, Setting, Target
from bench.load import Plan, run_load
from bench.load.http import fetch
from bench.population import fill_runs
from bench.stack import Stack, running_stack

_RUNS = 10_000
_ROOM = "lobby"


def _gets(port: int, path: str, body: str) -> Measure:
    async def measure(seconds: float) -> Figures:
        plan = Plan(kind="get", port=port, seconds=seconds, paths=[path], bodies=[body])
        return (await run_load(plan)).figures("reads")

    return measure


async def _contestants(stack: Stack, port: int, what: str, path: str) -> list[Contestant]:
    body = await fetch(port, path)
    body_file = stack.folder / f"{what}.json"
    body_file.write_text(body)
    floor = await stack.process("bench.noop", "NOOP_PORT", NOOP_BODY=str(body_file))
    return [
        Contestant(f"Runroom, {what}", "runroom", _gets(port, path, body)),
        Contestant(f"no-op GET, {what}", "floor", _gets(floor.port, "/v1/runs/any", body)),
    ]


@contextlib.asynccontextmanager
async def _open(setting: Setting) -> AsyncGenerator[list[Contestant], None]:
    async with running_stack(setting.folder) as stack:
        await fill_runs(stack.projection_dsn, _RUNS)
        connection = await asyncpg.connect(stack.projection_dsn)
        run_id = await connection.fetchval(
            "select run_id from proj_runs where workspace_id = 'bench' and room_id = $1 limit 1", _ROOM
        )
        await connection.close()
        query = await stack.service("query")
        yield [
            *await _contestants(stack, query.port, "one run", f"/v1/runs/{run_id}"),
            *await _contestants(stack, query.port, "50 runs", f"/v1/runs?room_id={_ROOM}&limit=50"),
        ]


SCENARIO = Scenario(
    "B11",
    "GET of one run and of a page of 50, 64 callers",
    _open,
    (
        Target("reads/s", "Runroom, one run", "at least", 0.6, "no-op GET, one run"),
        Target("reads/s", "Runroom, 50 runs", "at least", 0.4, "no-op GET, 50 runs"),
    ),
)
