"""How far the projections of a stack have come, and whether they are what its past makes them."""

import asyncio
import time

import asyncpg

from bench.filling import Past
from shared.contracts.ids import RoomKey

_PROJECTIONS = ("runs", "room_feed")
_POLL_SECONDS = 0.05
_PATIENCE_SECONDS = 900.0


async def wait_applied(dsn: str, past: Past) -> float:
    """When everything was applied by every projection (``time.perf_counter``). Raises ``TimeoutError``."""
    return await wait_level(dsn, past.events)


async def wait_level(dsn: str, events: int) -> float:
    """The same of so many events."""
    connection = await asyncpg.connect(dsn)
    try:
        async with asyncio.timeout(_PATIENCE_SECONDS):
            while await _applied(connection) < events * len(_PROJECTIONS):
                await asyncio.sleep(_POLL_SECONDS)
        return time.perf_counter()
    finally:
        await connection.close()


async def _applied(connection: asyncpg.Connection) -> int:
    return await connection.fetchval("select coalesce(sum(applied_seq), 0)::bigint from proj_applied")


async def check_projected(dsn: str, past: Past) -> None:
    """Raises ``AssertionError`` unless each room, run, step and event is there and as it should be."""
    connection = await asyncpg.connect(dsn)
    try:
        for projection in _PROJECTIONS:
            rows = await connection.fetch(
                "select workspace_id, room_id, applied_seq from proj_applied where projection = $1", projection
            )
            applied = {RoomKey(row["workspace_id"], row["room_id"]): row["applied_seq"] for row in rows}
            assert applied == past.heads, f"{projection} has not applied what is stored"
        runs = await connection.fetchval(
            "select count(*) from proj_runs where status = 'succeeded' and output::text = '{\"days\":3}'"
            " and created_at <= started_at and started_at <= ended_at"
        )
        steps = await connection.fetchval("select count(*) from proj_steps join proj_runs using (run_id)")
        events = await connection.fetchval("select count(*) from proj_room_events")
        assert (runs, steps, events) == (past.runs, past.steps, past.events), (
            f"{runs} runs, {steps} steps, {events} events of {past.runs}, {past.steps}, {past.events}"
        )
    finally:
        await connection.close()
