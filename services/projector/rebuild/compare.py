"""Whether a new version is as the one that is read.

Invariant: both are looked at in one snapshot, and a room is only held against the old version where both have come
equally far. A fold that is wrong itself is found here alone: a fresh fold is as wrong.

The rows of all rooms are gone through once, as they lie, and summed up by PostgreSQL, in parallel where it sees fit:
what comes back are the rooms that differ. Looking rooms up one after the other took ten times as long.
"""

import asyncio
from collections.abc import Sequence
from pathlib import Path

from services.projector.rebuild.tables import VIEWS
from services.projector.rebuild.versions import Version
from services.projector.verify.report import MOST_ROOMS, Report
from services.projector.verify.rooms import snapshot
from shared.contracts.ids import RoomKey
from shared.postgres import Connection, load_queries

_SQL = load_queries(Path(__file__).parent / "sql")

_PAGE_ROOMS = 500
_ROUNDS = 20
_ROUND_SECONDS = 0.25


async def compare_with_old(projections: Connection, projection: str, old: Version, new: Version, report: Report) -> int:
    """Compares count and checksum of each room's rows. The rooms that could not be, as they were never equally far."""
    moving = await _compare(projections, projection, old, new, report)
    for _ in range(_ROUNDS):
        if not moving or not report.all_is_well:
            break
        await asyncio.sleep(_ROUND_SECONDS)
        still: list[RoomKey] = []
        for start in range(0, len(moving), _PAGE_ROOMS):
            still += await _compare(projections, projection, old, new, report, moving[start : start + _PAGE_ROOMS])
        moving = still
    return len(moving)


async def _compare(
    projections: Connection,
    projection: str,
    old: Version,
    new: Version,
    report: Report,
    keys: Sequence[RoomKey] | None = None,
) -> list[RoomKey]:
    """Compares the rooms given, or all of them; those that are not equally far."""
    rooms = (
        None if keys is None else [key.workspace_id for key in keys],
        None if keys is None else [key.room_id for key in keys],
    )
    async with snapshot(projections):
        for view in VIEWS[projection]:
            tables = [f"{view}_v{version.version}" for version in (old, new)]
            columns = [row["expression"] for row in await projections.fetch(_SQL["common_columns"], *tables)]
            before, after = [_sums(view, version, columns, some=keys is not None) for version in (old, new)]
            statement = _SQL["rooms_differing"].replace("{before}", before).replace("{after}", after)
            for row in await projections.fetch(statement, old.name, new.name, *rooms, MOST_ROOMS):
                rows = [row["rows_before"], row["rows_after"]]
                what = f"{rows[0]} rows before, {rows[1]} now" if rows[0] != rows[1] else "other contents than before"
                report.differs(RoomKey(row["workspace_id"], row["room_id"]), new.name, f"{view}: {what}")
        return [
            RoomKey(*row) for row in await projections.fetch(_SQL["rooms_not_equally_far"], old.name, new.name, *rooms)
        ]


def _sums(view: str, version: Version, columns: Sequence[str], *, some: bool) -> str:
    """Rows and checksum per room, whatever the order of the rows, as a query."""
    number = version.version
    source = f"{view}_v{number} as t"
    if some:
        # By the index there is: steps are found by their runs.
        steps = view == "proj_steps"
        source = f"proj_runs_v{number} as r" if steps else source
        room = "r" if steps else "t"
        source = (
            f"unnest($3::text[], $4::text[]) as x (workspace_id, room_id) join {source}"
            f" on {room}.workspace_id = x.workspace_id and {room}.room_id = x.room_id"
        )
        if steps:
            source += f" join proj_steps_v{number} as t on t.run_id = r.run_id"
    return f"""select t.workspace_id, t.room_id, count(*) as rows,
        sum(hash_record_extended(row({", ".join(columns)}), 0)) as sum
        from {source} group by t.workspace_id, t.room_id"""  # noqa: S608
