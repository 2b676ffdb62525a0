"""Whether a new version is right: as a fresh fold of the event store, and as the version that is read.

Invariant: both are looked at in one snapshot, and a room is only held against the old version where both have come
equally far. A fold that is wrong itself is found by the old version alone.
"""

from pathlib import Path

from services.projector.rebuild.tables import VIEWS
from services.projector.verify.report import Report
from services.projector.verify.rooms import Page, RoomsCheck, pages, snapshot
from shared.contracts.ids import RoomKey
from shared.postgres import Connection, load_queries

_SQL = load_queries(Path(__file__).parent / "sql")

_RANGE = (
    "(r.workspace_id, r.room_id) > ($1, $2) and ($3::text is null or (r.workspace_id, r.room_id) <= ($3, $4::text))"
)


async def compare_with_store(
    store: Connection, projections: Connection, name: str, version: int, report: Report
) -> None:
    """Folds everything afresh. ``projections`` sees the new version in the place of the old one from here on."""
    projection = name.partition("@")[0]
    for view in VIEWS[projection]:
        await projections.execute(f"create temp view {view} as select * from {view}_v{version}")  # noqa: S608
    other = next(other for other in VIEWS if other != projection)
    await projections.execute(
        f"""create temp view proj_applied as
        select '{projection}'::text as projection, workspace_id, room_id, applied_seq from public.proj_rooms
        where projection = '{name}'
        union all
        select projection, workspace_id, room_id, applied_seq from public.proj_applied where projection = '{other}'"""  # noqa: S608
    )
    await projections.execute(
        f"""create temp view projector_parked as
        select p.* from public.projector_parked as p
        where p.skipped_at is not null and p.projection not like '{projection}%'
        union all
        select '{projection}', p.workspace_id, p.room_id, p.stream_seq, p.partition, p.error, p.attempts, p.parked_at,
            p.tried_at, p.wanted, p.skipped_at
        from public.projector_parked as p where p.skipped_at is not null and p.projection = '{name}'"""  # noqa: S608
    )
    await projections.execute(
        f"""create temp view projector_versions as
        select 'active' as state, '{projection}' as name, '{projection}' as projection
        union all select state, name, projection from public.projector_versions where projection = '{other}'"""  # noqa: S608
    )
    check = RoomsCheck(store, projections, report)
    async for page in pages(store):
        await check.compare(page)


async def compare_with_old(
    store: Connection, projections: Connection, old: tuple[str, int], new: tuple[str, int], report: Report
) -> int:
    """Compares count and checksum of each room's rows. The rooms that could not be, as they are not equally far."""
    (old_name, old_version), (new_name, new_version) = old, new
    projection = new_name.partition("@")[0]
    unequal = 0
    async for page in pages(store):
        async with snapshot(projections):
            far = await _applied(projections, page, old_name)
            new_far = await _applied(projections, page, new_name)
            same = {key for key, seq in far.items() if new_far.get(key) == seq}
            unequal += len(far) - len(same)
            for view in VIEWS[projection]:
                tables = f"{view}_v{old_version}", f"{view}_v{new_version}"
                names = [row[0] for row in await projections.fetch(_SQL["common_columns"], *tables)]
                before = await _sums(projections, page, view, old_version, names)
                after = await _sums(projections, page, view, new_version, names)
                for key in sorted(same):
                    if before.get(key) != after.get(key):
                        rows = [sums.get(key, (0, 0))[0] for sums in (before, after)]
                        what = f"{view}: {rows[0]} rows before, {rows[1]} now"
                        report.differs(
                            key, new_name, what if rows[0] != rows[1] else f"{view}: other contents than before"
                        )
    return unequal


async def _applied(projections: Connection, page: Page, name: str) -> dict[RoomKey, int]:
    statement = (
        f"select r.workspace_id, r.room_id, r.applied_seq from proj_rooms as r where {_RANGE} and r.projection = $5"  # noqa: S608
    )
    rows = await projections.fetch(statement, *page.bounds, name)
    return {RoomKey(row["workspace_id"], row["room_id"]): row["applied_seq"] for row in rows}


async def _sums(
    projections: Connection, page: Page, view: str, version: int, names: list[str]
) -> dict[RoomKey, tuple[int, int]]:
    """Rows and checksum per room, whatever the order of the rows."""
    columns = ", ".join(f"t.{name}" for name in names)
    source = f"{view}_v{version} as t"
    if view == "proj_steps":
        # Steps are found by their runs.
        source += f" join proj_runs_v{version} as r on r.run_id = t.run_id"
    else:
        source = f"{view}_v{version} as r cross join lateral (select r.*) as t"
    rows = await projections.fetch(
        f"""select r.workspace_id, r.room_id, count(*) as rows, sum(hashtextextended(row({columns})::text, 0)) as sum
        from {source} where {_RANGE} group by r.workspace_id, r.room_id""",  # noqa: S608
        *page.bounds,
    )
    return {RoomKey(row["workspace_id"], row["room_id"]): (row["rows"], int(row["sum"])) for row in rows}
