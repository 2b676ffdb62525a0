"""The versions of a projection: begun, handed to the workers, switched to, taken up again, dropped.

Invariant: each step is one transaction, and the state says which was the last one done.
"""

import asyncio
from pathlib import Path
from typing import NamedTuple

import asyncpg

from services.projector.copying import Copy, copy_columns
from services.projector.rebuild.tables import VIEWS
from shared.contracts.subjects import PARTITIONS, partition_of
from shared.messaging.stream import StreamState
from shared.postgres import Connection, apply_grants, load_queries

_SQL = load_queries(Path(__file__).parent / "sql")
_SCHEMA = load_queries(Path(__file__).parents[1] / "schema")
_GRANTS = Path(__file__).parents[1] / "grants"

_PREFETCH = 1000
_ROOMS = Copy("proj_rooms", ("projection", "workspace_id", "room_id", "partition", "applied_seq"))
_ROOMS_AHEAD = Copy("rooms_ahead", ("workspace_id", "room_id", "applied_seq", "last_seq"))
FREEZE_SECONDS = 0.8
"""How long the old version may be kept from moving; well below the time after which leases expire."""
_LOCK = "set local lock_timeout = '1s'; set local idle_in_transaction_session_timeout = '2s'"
"""A command that stands still in the middle, as its machine may, is cut off: workers and readers would wait for it."""
_VIEW_LOCK = "set local lock_timeout = '100ms'"
"""Far below PostgreSQL's deadlock timeout: should a reader and the switch wait for each other, the switch gives way."""


class Version(NamedTuple):
    """``schema`` is that of the code that began it."""

    version: int
    name: str
    state: str
    schema: int


async def versions_of(connection: Connection, projection: str) -> list[Version]:
    """Newest first."""
    return [Version(*row) for row in await connection.fetch(_SQL["version_find"], projection)]


async def begin(
    store: Connection, connection: Connection, projection: str, new: Version, active: Version, stream: StreamState
) -> None:
    """Makes the tables of a version and the list of rooms to be filled, from the state of the stream given."""

    async with store.transaction(readonly=True), connection.transaction():
        # Whoever may write as a worker may have written under a name to come.
        await _forget(connection, new.name)
        await connection.execute(
            _SQL["version_add"], projection, *new[:2], new.schema, stream.identity.key, stream.last_seq
        )
        await connection.execute(_SCHEMA[projection].replace("_vN", f"_v{new.version}"))
        await _copy_skips(store, connection, active, new)
        cursor = await store.cursor(_SQL["all_rooms"])
        while rooms := await cursor.fetch(_PREFETCH):
            rows = [(new.name, *room, partition_of(*room), 0) for room in rooms]
            await copy_columns(connection, "proj_rooms", _ROOMS, list(zip(*rows, strict=True)))
        await connection.execute("analyze proj_rooms")


async def hand_over(store: Connection, connection: Connection, projection: str, new: Version, active: Version) -> None:
    """Makes the indexes of a version that is filled, and lets the workers go on with it."""
    indexes = _SCHEMA.get(f"{projection}_indexes", "").replace("_vN", f"_v{new.version}")
    tables = ", ".join(f"{view}_v{new.version}" for view in VIEWS[projection])
    async with connection.transaction():
        await connection.execute(f"{indexes}; analyze {tables}, proj_rooms")
        await apply_grants(connection, _GRANTS)
        await _copy_skips(store, connection, active, new)
        await connection.execute(_SQL["hand_over"], new.name, PARTITIONS)


async def revive(store: Connection, connection: Connection, old: Version, active: Version) -> None:
    """Lets the workers go on with a version that was read before."""
    async with connection.transaction():
        await _copy_skips(store, connection, active, old)
        await connection.execute(_SQL["revive"], old.name)


async def find_ahead(store: Connection, connection: Connection, active: Version, new: Version) -> int:
    """Finds rooms that ``active`` says it has brought further than the event store goes, for ``behind``. How many.

    Somebody has written that: no version would ever come as far. Those that ``new`` has brought as far do not matter.
    """
    found = 0
    await connection.execute(_SQL["rooms_ahead"])
    async with connection.transaction():
        cursor = await connection.cursor(_SQL["rooms_behind"], active.name, new.name)
        # Each room was read before the event store is asked for it, which by then has all that was applied.
        while rooms := await cursor.fetch(_PREFETCH):
            keys = [row["workspace_id"] for row in rooms], [row["room_id"] for row in rooms]
            last_seq = {tuple(row[:2]): row["last_seq"] for row in await store.fetch(_SQL["sizes"], *keys)}
            ahead = [(*row, last) for row in rooms if (last := last_seq.get(tuple(row[:2]), 0)) < row["applied_seq"]]
            if ahead:
                await copy_columns(connection, "rooms_ahead", _ROOMS_AHEAD, list(zip(*ahead, strict=True)))
            found += len(ahead)
    return found


async def behind(connection: Connection, active: str, name: str) -> int:
    """How many rooms the version ``name`` has brought less far than the one called ``active``.

    To be called on the connection of ``find_ahead``, after that.
    """
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
                await _show(connection, view, f"{view}_v{new.version}")
            await connection.execute(await _applied_view(connection))
    except (TimeoutError, asyncpg.LockNotAvailableError, asyncpg.DeadlockDetectedError):
        return False
    return True


async def _show(connection: Connection, view: str, table: str) -> None:
    """Makes a view that of another table, whatever columns that has."""
    make = f"view {view} as select * from {table}"  # noqa: S608
    try:
        async with connection.transaction():
            await connection.execute(f"create or replace {make}")
    except asyncpg.InvalidTableDefinitionError:
        # That can only add columns at the end. Statements prepared for the old view are planned again for the new one.
        keeps = await connection.fetch(_SQL["view_keeps"], view)
        await connection.execute("; ".join((f"drop view {view}", f"create {make}", *(row[0] for row in keeps))))


async def drop(connection: Connection, projection: str, version: Version) -> None:
    """Drops the tables of a version that is not read, and everything known of it."""
    async with connection.transaction():
        await connection.execute(_LOCK)
        for view in VIEWS[projection]:
            await connection.execute(f"drop table if exists {view}_v{version.version}")
        await _forget(connection, version.name)
        await connection.execute("delete from projector_versions where name = $1", version.name)


async def _copy_skips(store: Connection, connection: Connection, active: Version, new: Version) -> None:
    """Of events that there are: of others nobody can have skipped any, whatever is written."""
    rooms = await connection.fetch(_SQL["skipped_rooms"], active.name)
    keys = [row["workspace_id"] for row in rooms], [row["room_id"] for row in rooms]
    sizes = await store.fetch(_SQL["sizes"], *keys)
    columns = ([row[name] for row in sizes] for name in ("workspace_id", "room_id", "last_seq"))
    await connection.execute(_SQL["skips_copied"], active.name, new.name, *columns)


async def _forget(connection: Connection, name: str) -> None:
    """Deletes everything that is known under a version's name, but the version."""
    for table in ("projector_leases", "proj_rooms", "projector_parked"):
        await connection.execute(f"delete from {table} where projection = $1", name)  # noqa: S608


async def _applied_view(connection: Connection) -> str:
    rows = await connection.fetch("select projection, name from projector_versions where state = 'active' order by 1")
    parts = [
        f"select '{row['projection']}'::text as projection, workspace_id, room_id, applied_seq from proj_rooms"  # noqa: S608
        f" where projection = '{row['name']}'"
        for row in rows
    ]
    return "create or replace view proj_applied as " + " union all ".join(parts)
