"""The floor of storing: one row the size of an event, one transaction, by PostgreSQL's own ``pgbench``."""

import asyncio
import re
import shutil
from asyncio.subprocess import PIPE
from pathlib import Path

import asyncpg

from bench.harness import Contestant, Figures
from bench.stack import Stack
from deploy.local.postgres import binary
from deploy.local.process import LocalError

_CLIENTS, _THREADS = 32, 2
_ENVELOPE_BYTES = 700
_TABLE = """create table rows (
    room_id text not null, event_id uuid primary key default gen_random_uuid(), envelope bytea not null
)"""
_SCRIPT = f"""\\set room random(0, 999)
insert into rows (room_id, envelope)
values ('room_' || :room, decode('{"7b" * _ENVELOPE_BYTES}', 'hex'));
"""
_COUNT = re.compile(rb"number of transactions actually processed: (\d+)")
_RATE = re.compile(rb"^tps = ([\d.]+)", re.MULTILINE)


async def insert_by_pgbench(stack: Stack) -> Contestant:
    name = "pgbench insert"
    program = _find()
    if program is None:
        return Contestant(name, "floor", None, why="pgbench is not on this machine")
    dsn = await stack.database("pgbench")
    script = stack.folder / "insert.sql"
    script.write_text(_SCRIPT)
    connection = await asyncpg.connect(dsn)
    await connection.execute(_TABLE)
    await connection.close()

    async def measure(seconds: float) -> Figures:
        before = await _rows(dsn)
        process = await asyncio.create_subprocess_exec(
            program,
            *("--no-vacuum", "--protocol=prepared", f"--file={script}"),
            *(f"--client={_CLIENTS}", f"--jobs={_THREADS}", f"--time={max(1, round(seconds))}", dsn),
            stdout=PIPE,
            stderr=PIPE,
        )
        printed, complaints = await process.communicate()
        count, rate = _COUNT.search(printed), _RATE.search(printed)
        assert process.returncode == 0, complaints.decode(errors="replace")
        assert count is not None, printed
        assert rate is not None, printed
        stored = await _rows(dsn) - before
        assert stored == int(count[1]), f"pgbench: {int(count[1])} transactions, {stored} rows"
        return {"commands/s": float(rate[1])}

    return Contestant(name, "floor", measure)


def _find() -> Path | None:
    try:
        return binary("pgbench")
    except LocalError:
        found = shutil.which("pgbench")
        return Path(found) if found else None


async def _rows(dsn: str) -> int:
    connection = await asyncpg.connect(dsn)
    try:
        return await connection.fetchval("select count(*) from rows")
    finally:
        await connection.close()
