"""B7: the projection ``runs`` built anew from 1,000,000 stored events, while workers run and reads go on."""

import asyncio
import contextlib
import sys
import time
from asyncio.subprocess import PIPE, STDOUT
from collections.abc import AsyncGenerator
from pathlib import Path

import asyncpg

from bench.filling import EVENTS_A_RUN, Past, fill
from bench.harness import Contestant, Figures, Scenario, Setting, Target
from bench.projected import check_projected, wait_applied
from bench.reading import going_on
from bench.stack import Stack, running_stack
from deploy.local.service import ROOT

_EVENTS = 1_000_000
_RUNROOM, _FLOOR = "Runroom", "COPY"
_VIEWS = ("proj_runs", "proj_steps", "proj_run_tags")
_READ_RUNS = 100


class _Rebuild:
    def __init__(self, stack: Stack, past: Past, query_port: int, run_ids: list[str]) -> None:
        self._stack = stack
        self._past = past
        self._query_port = query_port
        self._run_ids = run_ids

    async def rebuild(self, _: float) -> Figures:
        async with going_on(self._query_port, self._run_ids):
            started = time.perf_counter()
            await self._command("rebuild", "runs")
            seconds = time.perf_counter() - started
        await check_projected(self._stack.projection_dsn, self._past)
        await self._command("rebuild", "runs", "--drop-old")
        return {"events/s": self._past.events / seconds}

    async def copy(self, _: float) -> Figures:
        """The same rows out of a file into empty tables with the same indexes, while the same reads go on."""
        connection = await asyncpg.connect(self._stack.projection_dsn)
        try:
            copies: list[tuple[str, Path]] = []
            for view in _VIEWS:
                file, table = self._stack.folder / view, f"copy_of_{view}"
                await connection.copy_from_query(f"select * from {view}", output=file, format="binary")
                behind = await connection.fetchval(
                    "select table_name from information_schema.view_table_usage where view_name = $1", view
                )
                await connection.execute(f"create table {table} (like {behind} including all)")
                copies.append((table, file))
            async with going_on(self._query_port, self._run_ids):
                started = time.perf_counter()
                for table, file in copies:
                    await connection.copy_to_table(table, source=file, format="binary")
                seconds = time.perf_counter() - started
            counts = [await connection.fetchval(f"select count(*) from {table}") for table, _ in copies]
            assert counts == [self._past.runs, self._past.steps, self._past.tags], f"{counts} rows copied"
            await connection.execute(f"drop table {', '.join(table for table, _ in copies)}")
        finally:
            await connection.close()
        return {"events/s": self._past.events / seconds}

    async def _command(self, *arguments: str) -> None:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "services.projector", *arguments),
            env=self._stack.environment("projector"),
            cwd=ROOT,
            stdout=PIPE,
            stderr=STDOUT,
        )
        printed, _ = await process.communicate()
        assert process.returncode == 0, f"{' '.join(arguments)}: {printed.decode(errors='replace')}"


@contextlib.asynccontextmanager
async def _open(setting: Setting) -> AsyncGenerator[list[Contestant], None]:
    async with running_stack(setting.folder) as stack:
        past = await fill(stack, int(_EVENTS * setting.size) // EVENTS_A_RUN)
        query = await stack.service("query")
        await stack.service("projector")
        await wait_applied(stack.projection_dsn, past)
        rebuild = _Rebuild(stack, past, query.port, await _some_runs(stack))
        yield [
            Contestant(_RUNROOM, "runroom", rebuild.rebuild),
            Contestant(_FLOOR, "floor", rebuild.copy),
        ]


async def _some_runs(stack: Stack) -> list[str]:
    connection = await asyncpg.connect(stack.projection_dsn)
    try:
        rows = await connection.fetch(f"select run_id from proj_runs order by md5(run_id) limit {_READ_RUNS}")
        return [row["run_id"] for row in rows]
    finally:
        await connection.close()


SCENARIO = Scenario(
    "B7",
    "runs rebuilt from 1,000,000 events, reads going on",
    _open,
    (Target("events/s", _RUNROOM, "at least", 0.3, _FLOOR),),
    rounds=2,
    warm_up=False,
)
