"""B11: one run, and a page of 50, by 64 callers; beside a GET with nothing behind it that gives the same bytes.

The callers ask for the same page, as the viewers of a room do, which is then read for many of them at once. What pages
cost that have nothing in common is told by a contestant that asks for those of a hundred rooms in turn.
"""

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
_OTHER_ROOMS = [f"room_{number}" for number in range(100)]


def _gets(port: int, *lists: tuple[str, str]) -> Measure:
    paths, bodies = map(list, zip(*lists, strict=True))

    async def measure(seconds: float) -> Figures:
        plan = Plan(kind="get", port=port, seconds=seconds, paths=paths, bodies=bodies)
        return (await run_load(plan)).figures("reads")

    return measure


async def _contestants(stack: Stack, port: int, what: str, path: str) -> list[Contestant]:
    body = await fetch(port, path)
    body_file = stack.folder / f"{what}.json"
    body_file.write_text(body)
    floor = await stack.process("bench.noop", "NOOP_PORT", NOOP_BODY=str(body_file))
    return [
        Contestant(f"Runroom, {what}", "runroom", _gets(port, (path, body))),
        Contestant(f"no-op GET, {what}", "floor", _gets(floor.port, ("/v1/runs/any", body))),
    ]


def _page(room: str) -> str:
    return f"/v1/runs?room_id={room}&limit=50"


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
        pages = [(_page(room), await fetch(query.port, _page(room))) for room in _OTHER_ROOMS]
        yield [
            *await _contestants(stack, query.port, "one run", f"/v1/runs/{run_id}"),
            *await _contestants(stack, query.port, "50 runs", _page(_ROOM)),
            Contestant("Runroom, 50 runs, 100 rooms", "runroom", _gets(query.port, *pages)),
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
