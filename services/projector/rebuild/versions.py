"""The versions of a projection: begun, handed to the workers, switched to, dropped.

Invariant: each step is one transaction, and the state says which was the last one done.
"""

import asyncio
from pathlib import Path
from typing import NamedTuple

import asyncpg

from services.projector.rebuild.tables import VIEWS
from shared.contracts.ids import RoomKey
from shared.contracts.subjects import PARTITIONS
from shared.messaging.stream import StreamState
from shared.postgres import Connection, load_queries

_SQL = load_queries(Path(__file__).parent / "sql")
_SCHEMA = load_queries(Path(__file__).parents[1] / "schema")

FREEZE_SECONDS = 0.8
"""How long the old version may be kept from moving; well below the time after which leases expire."""
_LOCK = "set local lock_timeout = '1s'"
_VIEW_LOCK = "set local lock_timeout = '100ms'"
"""Far below PostgreSQL's deadlock timeout: should a reader and the switch wait for each other, the switch gives way."""


class Version(NamedTuple):
    """``after`` and ``events`` are how far its fill has come."""

    version: int
    name: str
    state: str
    after: RoomKey
    events: int


async def versions_of(connection: Connection, projection: str) -> list[Version]:
    """Newest first."""
    return [
        Version(row["version"], row["name"], row["state"], RoomKey(row["workspace_id"], row["room_id"]), row["events"])
        for row in await connection.fetch(_SQL["version_find"], projection)
    ]


async def begin(connection: Connection, projection: str, version: int, stream: StreamState) -> None:
    """Makes the tables of a version, to be filled from the state of the stream given."""
    async with connection.transaction():
        name = f"{projection}@{version}"
        await connection.execute(_SQL["version_add"], projection, version, name, stream.identity.key, stream.last_seq)
        await connection.execute(_SCHEMA[projection].replace("_vN", f"_v{version}"))


async def hand_over(connection: Connection, name: str, active: str) -> None:
    """Lets the workers go on with a version that is filled."""
    async with connection.transaction():
        await connection.execute(_SQL["skips_copied"], active, name)
        await connection.execute(_SQL["hand_over"], name, PARTITIONS)


async def behind(connection: Connection, active: str, name: str) -> int:
    """How many rooms the version ``name`` has brought less far than the one called ``active``."""
    return await connection.fetchval(_SQL["behind"], active, name)


async def switch(connection: Connection, projection: str, active: Version, new: Version) -> bool:
    """Makes readers see the new version, if it comes as far as the active one in time. Whether it did."""
    try:
        async with connection.transaction():
            await connection.execute(_LOCK)
            await connection.fetch(_SQL["freeze"], active.name)
            async with asyncio.timeout(FREEZE_SECONDS):
                while await behind(connection, active.name, new.name):  # noqa: ASYNC110  # others move it, elsewhere
                    await asyncio.sleep(0.02)
            await connection.execute(_SQL["retire_version"], projection)
            if await connection.fetchval(_SQL["activate_version"], new.name) is None:
                raise LookupError(f"{new.name} is not ready")
            await connection.execute(_VIEW_LOCK)
            # The views in the order in which statements name them: the rows first, then how far they have come.
            for view in VIEWS[projection]:
                await connection.execute(f"create or replace view {view} as select * from {view}_v{new.version}")  # noqa: S608
            await connection.execute(await _applied_view(connection))
    except (TimeoutError, asyncpg.LockNotAvailableError, asyncpg.DeadlockDetectedError):
        return False
    return True


async def drop(connection: Connection, projection: str, version: Version) -> None:
    """Drops the tables of a version that is not read, and everything known of it."""
    async with connection.transaction():
        await connection.execute(_LOCK)
        for view in VIEWS[projection]:
            await connection.execute(f"drop table {view}_v{version.version}")
        for table in ("projector_leases", "proj_rooms", "projector_parked"):
            await connection.execute(f"delete from {table} where projection = $1", version.name)  # noqa: S608
        await connection.execute("delete from projector_versions where name = $1", version.name)


async def _applied_view(connection: Connection) -> str:
    rows = await connection.fetch("select projection, name from projector_versions where state = 'active' order by 1")
    parts = [
        f"select '{row['projection']}'::text as projection, workspace_id, room_id, applied_seq from proj_rooms"  # noqa: S608
        f" where projection = '{row['name']}'"
        for row in rows
    ]
    return "create or replace view proj_applied as " + " union all ".join(parts)
