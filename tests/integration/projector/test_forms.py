"""What the projections take from whoever has a projector's password, and how older ones come to it."""

from __future__ import annotations

import json
import shutil
import uuid
from collections.abc import AsyncGenerator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from deploy.local import EmbeddedPostgres
from services.projector.rebuild.versions import _SCHEMA as SCHEMA
from shared.postgres import migrate
from tests.integration.privileges import connected
from tests.support.manual import run_typed
from tests.support.servers import PROJECTION_MIGRATIONS, as_role

WISH = (PROJECTION_MIGRATIONS.parent / "sql" / "parked_wish.sql").read_text()
SKIPS_COPIED = (PROJECTION_MIGRATIONS.parent / "rebuild" / "sql" / "skips_copied.sql").read_text()
SECTION = "When a credential is stolen"
MIB = 1024 * 1024
LARGE = json.dumps({"n": [1e15] * (5 * MIB // 20)})
"""Of a body of 1 MiB, and more: such numbers grow most when they are written again."""
NOW = datetime(2026, 11, 27, tzinfo=UTC)
ROWS: dict[str, dict[str, Any]] = {
    "proj_runs_v1": {
        "run_id": "run_01jd4x8cbtek7vz8mcxz1xg0fe",
        "workspace_id": "w" * 128,
        "room_id": "room",
        "thread_id": None,
        "status": "failed",
        "title": None,
        "goal": None,
        "input": "{}",
        "output": "{}",
        "error": "{}",
        "summary": None,
        "tags": [],
        "created_at": NOW,
        "started_at": None,
        "ended_at": NOW,
        "updated_at": NOW,
        "correlation_id": "c",
        "last_event_id": uuid.UUID(int=1),
        "stream_seq": 2,
    },
    "proj_steps_v1": {
        "step_id": "step_01jd4x8cbtek7vz8mcxz1xg0fe",
        "run_id": "run_01jd4x8cbtek7vz8mcxz1xg0fe",
        "workspace_id": "ws",
        "room_id": "room",
        "thread_id": None,
        "kind": "tool",
        "status": "queued",
        "title": None,
        "input": "{}",
        "output": "{}",
        "error": "{}",
        "created_at": NOW,
        "updated_at": NOW,
        "last_event_id": uuid.UUID(int=1),
        "stream_seq": 2,
    },
    "proj_room_events_v1": {
        "workspace_id": "ws",
        "room_id": "room",
        "stream_seq": 1,
        "stream_position": 1,
        "envelope": b"{}",
    },
}
ROWS |= {
    "proj_run_tags_v1": {
        "workspace_id": "ws",
        "tag": "tag",
        "created_at": NOW,
        "run_id": "run_01jd4x8cbtek7vz8mcxz1xg0fe",
        "room_id": "room",
    },
    "projector_workers": {"worker_id": "host-1-abcdef", "projections": ["runs"], "expires_at": NOW},
    "projector_leases": {"projection": "elsewhere", "partition": 31, "owner": None, "stream_identity": ""},
    "projector_parked": {
        "projection": "elsewhere",
        "workspace_id": "ws",
        "room_id": "room",
        "stream_seq": 1,
        "partition": 0,
        "error": "Error: x",
        "parked_at": NOW,
        "tried_at": NOW,
    },
    "proj_rooms": {
        "projection": "elsewhere",
        "workspace_id": "ws",
        "room_id": "room",
        "partition": 0,
        "applied_seq": 0,
    },
}
LARGEST: dict[str, dict[str, Any]] = {
    "proj_runs_v1": {
        **dict.fromkeys(("title", "goal", "summary"), "x" * MIB),
        **dict.fromkeys(("input", "output", "error"), LARGE),
        "tags": ["🙂" * 255 + str(number % 10) for number in range(100)],
        "correlation_id": "🙂" * 128,
    },
    "proj_steps_v1": {
        **dict.fromkeys(("kind", "title"), "x" * MIB),
        **dict.fromkeys(("input", "output", "error"), LARGE),
    },
    "proj_room_events_v1": {"envelope": b"x" * 8 * MIB},
    "proj_run_tags_v1": {"tag": "🙂" * 256, "room_id": "r" * 128},
    "projector_workers": {"worker_id": "w" * 63 + "-4194304-abcdef", "projections": ["room_feed@100"] * 16},
    "projector_leases": {"owner": "w" * 128, "stream_identity": "2026-11-27T03:50:44.123456+00:00/" + "9" * 20},
    "projector_parked": {"workspace_id": "w" * 128, "room_id": "r" * 128, "error": "🙂" * 500},
    "proj_rooms": {"workspace_id": "w" * 128, "room_id": "r" * 128},
}
IDS = ("i" * 129,)
TEXTS = ("x" * (2 * MIB + 1),)
JSON = (f'"{"x" * (8 * MIB)}"',)
TIMES = ("infinity", "-infinity", "0044-03-15 BC", "0001-01-01 BC", "10000-01-01", "9999-12-31T23:59:59-14:00")
BAD: dict[tuple[str, str], tuple[Any, ...]] = {
    **{("proj_runs_v1", name): TIMES for name in ("created_at", "started_at", "ended_at", "updated_at")},
    **{("proj_steps_v1", name): TIMES for name in ("created_at", "updated_at")},
    **{("proj_runs_v1", name): IDS for name in ("run_id", "workspace_id", "room_id", "thread_id", "status")},
    **{
        ("proj_steps_v1", name): IDS for name in ("step_id", "run_id", "workspace_id", "room_id", "thread_id", "status")
    },
    **{("proj_runs_v1", name): TEXTS for name in ("title", "goal", "summary")},
    **{("proj_steps_v1", name): TEXTS for name in ("kind", "title")},
    **{(table, name): JSON for table in ("proj_runs_v1", "proj_steps_v1") for name in ("input", "output", "error")},
    ("proj_runs_v1", "correlation_id"): ("c" * 513,),
    ("proj_runs_v1", "tags"): (["t" * 140_000], ["t"] * 30_000),
    **{("proj_run_tags_v1", name): IDS for name in ("workspace_id", "run_id", "room_id")},
    ("proj_run_tags_v1", "created_at"): TIMES,
    ("proj_run_tags_v1", "tag"): ("t" * 1025,),
    **{("projector_parked", name): IDS for name in ("projection", "workspace_id", "room_id")},
    **{("projector_parked", name): TIMES for name in ("parked_at", "tried_at", "skipped_at")},
    ("projector_parked", "error"): ("e" * 2001,),
    ("projector_parked", "stream_seq"): (0, -1),
    ("projector_parked", "partition"): (-1, 32),
    **{("proj_rooms", name): IDS for name in ("projection", "workspace_id", "room_id")},
    ("proj_rooms", "applied_seq"): (-1,),
    ("projector_leases", "projection"): IDS,
    ("projector_leases", "partition"): (-1, 32),
    **{("projector_leases", name): ("o" * 257,) for name in ("owner", "stream_identity")},
    ("projector_workers", "worker_id"): IDS,
    ("projector_workers", "projections"): (["runs"] * 65, ["r" * 8192], [["runs"]], [None]),
    ("proj_room_events_v1", "envelope"): (b"", b"e" * (16 * MIB + 1)),
}


async def insert(connection: asyncpg.Connection, table: str, row: dict[str, Any]) -> None:
    """Times as PostgreSQL reads them: the driver holds fewer."""
    places = (
        f"${number}::text::timestamptz" if name.endswith("_at") else f"${number}" for number, name in enumerate(row, 1)
    )
    values = (str(value) if isinstance(value, datetime) else value for value in row.values())
    await connection.execute(f"insert into {table} ({', '.join(row)}) values ({', '.join(places)})", *values)


@pytest.mark.parametrize(("table", "column"), BAD)
async def test_what_no_projector_writes_is_not_written(projection_dsn: str, table: str, column: str) -> None:
    async with connected(as_role(projection_dsn, "runroom_projector")) as thief:
        for value in BAD[table, column]:
            with pytest.raises(asyncpg.CheckViolationError, match=rf"{table}_(times_|applied_)?forms"):
                await insert(thief, table, {**ROWS[table], column: value})


@pytest.mark.parametrize("table", ROWS)
async def test_the_largest_that_a_command_can_lead_to_is(projection_dsn: str, table: str) -> None:
    async with connected(as_role(projection_dsn, "runroom_projector")) as projector:
        transaction = projector.transaction()
        await transaction.start()
        await insert(projector, table, {**ROWS[table], **LARGEST[table]})
        await transaction.rollback()


async def test_a_run_does_not_get_there_later(projection_dsn: str) -> None:
    async with connected(as_role(projection_dsn, "runroom_projector")) as thief:
        await insert(thief, "proj_runs_v1", ROWS["proj_runs_v1"])
        for time in TIMES:
            with pytest.raises(asyncpg.CheckViolationError):
                await thief.execute("update proj_runs_v1 set ended_at = $1::text::timestamptz", time)


@pytest.fixture
async def older(postgres_server: EmbeddedPostgres, tmp_path: Path) -> AsyncGenerator[str, None]:
    """The owner's DSN of the projections of a release before."""
    postgres_server.execute("create database older_projections owner runroom_migrate")
    dsn = postgres_server.dsn("older_projections", "runroom_migrate")
    before = tmp_path / "migrations"
    shutil.copytree(PROJECTION_MIGRATIONS, before, ignore=lambda _, names: [name for name in names if name >= "0008"])
    await migrate(dsn, before)
    yield dsn
    postgres_server.execute("drop database older_projections with (force)")


async def test_projections_that_hold_what_no_projector_wrote_keep_it_and_take_no_more_of_it(older: str) -> None:
    async with connected(older) as owner:
        for table, row in ROWS.items():
            await insert(owner, table, row)
        await insert(owner, "proj_runs_v1", {**ROWS["proj_runs_v1"], "run_id": "run_1", "created_at": "infinity"})
        await insert(owner, "projector_parked", {**ROWS["projector_parked"], "room_id": "long", "error": "x" * MIB})
        await migrate(older, PROJECTION_MIGRATIONS)
        assert await forms(owner, convalidated=True) == {
            *ROWS.keys() - {"proj_runs_v1", "projector_parked"},
            *("projector_versions", "projector_parked_times", "proj_rooms_applied"),
        }
        assert await forms(owner, convalidated=False) == {"proj_runs_v1", "projector_parked"}
        assert await owner.fetchval("select length(error) from projector_parked where room_id = 'long'") == MIB
        wished = await owner.fetch(WISH, "elsewhere", "retry", "", "", 0, "x", "", 0)
        assert {row["room_id"] for row in wished} == {"room", "long"}
        assert await owner.fetchval("select count(*) from proj_runs") == 2
        with pytest.raises(asyncpg.CheckViolationError):
            await insert(owner, "proj_runs_v1", {**ROWS["proj_runs_v1"], "run_id": "run_2", "created_at": "infinity"})


async def test_times_that_somebody_wrote_are_put_right_or_kept(older: str) -> None:
    """What was parked or skipped stays so; a row of another form besides is no projector's."""
    timeless = {**ROWS["projector_parked"], **dict.fromkeys(("parked_at", "tried_at", "skipped_at"), "infinity")}
    query = "select room_id, parked_at between now() - interval '1 minute' and now() as is_right from projector_parked"
    async with connected(older) as owner:
        await insert(owner, "projector_parked", {**timeless, "error": "x" * MIB, "skipped_at": "0044-03-15 BC"})
        await insert(owner, "projector_parked", {**timeless, "room_id": "lost", "partition": 99})
        await insert(owner, "projector_parked", {**ROWS["projector_parked"], "room_id": "well", "skipped_at": NOW})
        await migrate(older, PROJECTION_MIGRATIONS)
        assert {tuple(row) for row in await owner.fetch(query)} == {("room", True), ("lost", False), ("well", False)}
        assert await forms(owner, convalidated=False) == {"projector_parked", "projector_parked_times"}
        well = "select (parked_at, tried_at, skipped_at) = ($1, $1, $1) from projector_parked where room_id = 'well'"
        assert await owner.fetchval(well, NOW)
        put_right = "update projector_parked set attempts = 2 where room_id = 'room' returning skipped_at <= now()"
        assert await owner.fetchval(put_right)
        await insert(owner, "proj_rooms", {**ROWS["proj_rooms"], "room_id": "lost", "applied_seq": 1})
        await owner.execute(SKIPS_COPIED, "elsewhere", "elsewhere@2", ["ws"], ["lost"], [1])
        assert await owner.fetchval("select count(*) from projector_parked where projection = 'elsewhere@2'") == 1


async def test_rooms_that_are_applied_up_to_before_their_first_event_are_put_right_or_kept(older: str) -> None:
    below = {**ROWS["proj_rooms"], "applied_seq": -5}
    query = "select applied_seq from proj_rooms order by 1"
    async with connected(older) as owner:
        await insert(owner, "proj_rooms", below)
        await insert(owner, "proj_rooms", {**below, "room_id": "far", "applied_seq": 7})
        await insert(owner, "proj_rooms", {**below, "room_id": "r" * 129})
        await migrate(older, PROJECTION_MIGRATIONS)
        assert [row[0] for row in await owner.fetch(query)] == [-5, 0, 7]
        assert await forms(owner, convalidated=False) == {"proj_rooms", "proj_rooms_applied"}
    # As the manual has it.
    run_typed(
        SECTION, "psql --set=ON_ERROR_STOP=1 \"$PROJECTION_OWNER_DSN\" <<'SQL'\nselect", {"PROJECTION_OWNER_DSN": older}
    )
    async with connected(older) as owner:
        assert [row[0] for row in await owner.fetch(query)] == [0, 7]


async def test_every_table_of_the_projections_has_forms(projection_dsn: str) -> None:
    async with connected(projection_dsn) as owner:
        tables = await owner.fetch(
            "select tablename from pg_tables where schemaname = 'public' and tablename !~ '^_pogo_'"
        )
        assert await forms(owner, convalidated=True) == {
            *(row[0] for row in tables),
            *("projector_parked_times", "proj_rooms_applied"),
        }


async def test_a_version_of_a_rebuild_has_the_same(older: str) -> None:
    async with connected(older) as owner:
        await migrate(older, PROJECTION_MIGRATIONS)
        for schema in ("runs", "runs_indexes", "room_feed"):
            await owner.execute(SCHEMA[schema].replace("_vN", "_v2"))
        rows = await owner.fetch(
            "select conrelid::regclass::text as name, pg_get_constraintdef(oid) as form from pg_constraint"
            " where contype = 'c' and conrelid::regclass::text ~ '^proj_.*_v[12]$'"
        )
        found = {row["name"]: row["form"] for row in rows}
        versioned = [table for table in ROWS if table.endswith("_v1")]
        assert set(found) == {table.replace("_v1", version) for table in versioned for version in ("_v1", "_v2")}
        for table in versioned:
            assert found[table] == found[table.replace("_v1", "_v2")]


async def forms(connection: asyncpg.Connection, *, convalidated: bool) -> set[str]:
    """What has forms that hold of all rows, or of those since: a table, or some of its columns."""
    rows = await connection.fetch(
        "select conname from pg_constraint where conname ~ '_forms$' and convalidated = $1", convalidated
    )
    return {row[0].removesuffix("_forms") for row in rows}


async def test_what_is_read_of_a_row_of_before_is_bounded(older: str) -> None:
    queries = PROJECTION_MIGRATIONS.parent / "sql"
    async with connected(older) as owner:
        await insert(owner, "projector_parked", {**ROWS["projector_parked"], "error": "x" * MIB})
        await owner.execute(
            "insert into projector_workers select 'ghost', array_agg(n::text), now() + interval '1 minute'"
            " from generate_series(1, 100000) as n"
        )
        await migrate(older, PROJECTION_MIGRATIONS)
        for name, arguments in (
            ("parked_open", ("elsewhere", [0], 10)),
            ("parked_events", ("elsewhere", "ws", "room", 0, "elsewhere", "ws", "room", 10)),
            ("parked_state", ("elsewhere", ["ws"], ["room"], [1])),
        ):
            row = await owner.fetchrow((queries / f"{name}.sql").read_text(), *arguments)
            assert row is not None
            assert len(row["error"]) == 500
        living = await owner.fetch((queries / "living_workers.sql").read_text(), "ghost")
        assert [len(row["projections"]) for row in living] == [16]
