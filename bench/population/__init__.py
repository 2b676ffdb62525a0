"""Projections filled directly, for reads that need more rows than there is time to apply events."""

import asyncio
from pathlib import Path

import asyncpg

from shared.postgres import load_queries

_SQL = load_queries(Path(__file__).parent)
_MEMORY = "1GB"


async def fill_history(dsn: str, rooms: list[str], events: int, workspace_id: str = "bench") -> None:
    """So many events in each room's history, as if the projection ``room_feed`` had applied them."""
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute(_SQL["fill_history"], workspace_id, rooms, events)
        await connection.execute(_SQL["fill_applied"], workspace_id, rooms, events)
        await connection.execute("vacuum analyze proj_room_events_v1, proj_rooms")
    finally:
        await connection.close()


async def fill_runs(dsn: str, runs: int, workspace_id: str = "bench") -> None:
    """So many runs, four of five in the workspace, of a year, oldest first; the statement says of what kinds.

    The indexes are dropped and made again, that of tags among them, and nothing is logged: the rows are the same, and
    there sooner.
    """
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute(f"set maintenance_work_mem = '{_MEMORY}'")
        await connection.execute("alter table proj_runs_v1 set unlogged; alter table proj_run_tags_v1 set unlogged")
        await connection.execute("alter table proj_runs_v1 disable trigger user")
        indexes = await connection.fetch(_SQL["secondary_indexes"])
        for name, _ in indexes:
            await connection.execute(f"drop index {name}")
        await asyncio.gather(
            _fill_part(dsn, workspace_id, runs, 1, runs // 2), _fill_part(dsn, workspace_id, runs, runs // 2 + 1, runs)
        )
        await connection.execute(_SQL["fill_run_tags"])
        await connection.execute("alter table proj_runs_v1 enable trigger user")
        for _, definition in indexes:
            await connection.execute(definition)
        await connection.execute("vacuum analyze proj_runs_v1, proj_run_tags_v1")
    finally:
        await connection.close()


async def _fill_part(dsn: str, workspace_id: str, runs: int, first: int, last: int) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute(_SQL["fill_runs"], workspace_id, runs, first, last)
    finally:
        await connection.close()
