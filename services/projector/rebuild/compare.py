"""Whether a new version is right: as a fresh fold of the event store, and as the version that is read.

Invariant: both are looked at in one snapshot, and a room is only held against the old version where both have come
equally far. A fold that is wrong itself is found by the old version alone.
"""

import asyncio
from collections.abc import Sequence
from pathlib import Path

from services.projector.rebuild.tables import VIEWS
from services.projector.rebuild.versions import Version
from services.projector.verify.report import Report
from services.projector.verify.rooms import RoomsCheck, pages, snapshot
from shared.contracts.ids import RoomKey
from shared.postgres import Connection, load_queries

_SQL = load_queries(Path(__file__).parent / "sql")
_APPLIED = load_queries(Path(__file__).parents[1] / "sql")["applied_seqs"]

PAGE_ROOMS = 500
_ROUNDS = 20
_ROUND_SECONDS = 0.25


async def compare_with_store(
    store: Connection, projections: Connection, projection: str, new: Version, report: Report
) -> None:
    """Folds everything afresh. ``projections`` sees the new version, and nothing else, from here on."""
    for name, views in VIEWS.items():
        for view in views:
            source = f"{view}_v{new.version}" if name == projection else f"public.{view} where false"
            await projections.execute(f"create temp view {view} as select * from {source}")  # noqa: S608
    await projections.execute(
        f"""create temp view proj_applied as
        select '{projection}'::text as projection, workspace_id, room_id, applied_seq from public.proj_rooms
        where projection = '{new.name}';
        create temp view projector_parked as
        select * from public.projector_parked where skipped_at is not null and projection = '{new.name}';
        create temp view projector_versions as
        select 'active' as state, '{new.name}' as name, '{projection}' as projection"""  # noqa: S608
    )
    check = RoomsCheck(store, projections, report)
    async for page in pages(store):
        await check.compare(page)


async def compare_with_old(projections: Connection, projection: str, old: Version, new: Version, report: Report) -> int:
    """Compares count and checksum of each room's rows. The rooms that could not be, as they were never equally far."""
    moving: list[RoomKey] = []
    after = RoomKey("", "")
    while rows := await projections.fetch(_SQL["rooms_of"], old.name, *after, PAGE_ROOMS):
        keys = [RoomKey(*row) for row in rows]
        moving += await _compare(projections, projection, keys, (old, new), report)
        after = keys[-1]
    for _ in range(_ROUNDS):
        if not moving or not report.all_is_well:
            break
        await asyncio.sleep(_ROUND_SECONDS)
        again, moving = moving, []
        for start in range(0, len(again), PAGE_ROOMS):
            keys = again[start : start + PAGE_ROOMS]
            moving += await _compare(projections, projection, keys, (old, new), report)
    return len(moving)


async def _compare(
    projections: Connection, projection: str, keys: Sequence[RoomKey], versions: tuple[Version, Version], report: Report
) -> list[RoomKey]:
    """Those of the rooms that are not equally far."""
    async with snapshot(projections):
        far, new_far = [
            {RoomKey(*row[:2]): row[2] for row in await projections.fetch(_APPLIED, version.name, *_columns(keys))}
            for version in versions
        ]
        same = [key for key in keys if far[key] == new_far.get(key)]
        for view in VIEWS[projection]:
            tables = [f"{view}_v{version.version}" for version in versions]
            names = [row[0] for row in await projections.fetch(_SQL["common_columns"], *tables)]
            before, after = [await _sums(projections, view, version, names, same) for version in versions]
            for key in same:
                if before.get(key) != after.get(key):
                    rows = [sums.get(key, (0, 0))[0] for sums in (before, after)]
                    what = (
                        f"{rows[0]} rows before, {rows[1]} now" if rows[0] != rows[1] else "other contents than before"
                    )
                    report.differs(key, versions[1].name, f"{view}: {what}")
    return [key for key in keys if far[key] != new_far.get(key)]


async def _sums(
    projections: Connection, view: str, version: Version, names: list[str], keys: Sequence[RoomKey]
) -> dict[RoomKey, tuple[int, int]]:
    """Rows and checksum per room, whatever the order of the rows."""
    number = version.version
    columns = ", ".join(f"t.{name}" for name in names)
    # Steps are found by their runs.
    source = f"proj_runs_v{number} as r join proj_steps_v{number} as t using (run_id)"
    if view != "proj_steps":
        source = f"{view}_v{number} as r cross join lateral (select r.*) as t"
    rows = await projections.fetch(
        f"""select x.workspace_id, x.room_id, count(*) as rows, sum(hashtextextended(row({columns})::text, 0)) as sum
        from unnest($1::text[], $2::text[]) as x (workspace_id, room_id)
        join ({source}) on r.workspace_id = x.workspace_id and r.room_id = x.room_id
        group by x.workspace_id, x.room_id""",  # noqa: S608
        *_columns(keys),
    )
    return {RoomKey(*row[:2]): (row["rows"], int(row["sum"])) for row in rows}


def _columns(keys: Sequence[RoomKey]) -> tuple[list[str], list[str]]:
    return [key.workspace_id for key in keys], [key.room_id for key in keys]
