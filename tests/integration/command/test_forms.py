"""What the event store takes from whoever has the command service's password, and how an older store comes to it."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
import uuid
from collections.abc import AsyncGenerator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from deploy.local import EmbeddedPostgres
from services.command.relay import outbox
from shared.postgres import migrate, running_pool
from tests.integration.privileges import connected
from tests.support.manual import run_typed
from tests.support.servers import EVENT_STORE_MIGRATIONS, REPOSITORY, as_role

PATIENCE = 20.0
NOW = datetime(2026, 11, 27, tzinfo=UTC)
MOST = 2**53 - 1
FAR = datetime(9000, 1, 1, tzinfo=UTC)
INFINITE = (datetime.min, datetime.max)  # noqa: DTZ901  # to the driver
ROWS: dict[str, dict[str, Any]] = {
    "rooms": {"workspace_id": "w" * 128, "room_id": "-_aZ9", "last_seq": MOST, "published_seq": 0},
    "events": {
        "workspace_id": "w" * 128,
        "room_id": "-_aZ9",
        "stream_seq": MOST,
        "event_id": uuid.UUID(int=1),
        "run_id": "run_01jd4x8cbtek7vz8mcxz1xg0fe",
        "event_type": "run.not-known_yet2",
        "event_version": 1,
        "recorded_at": NOW,
        "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "envelope": b"{}",
    },
    "runs": {
        "run_id": "run_01jd4x8cbtek7vz8mcxz1xg0fe",
        "workspace_id": "ws",
        "room_id": "room",
        "thread_id": None,
        "status": "queued",
        "version": 2**30 - 1,
        "last_event_id": uuid.UUID(int=1),
        "correlation_id": "ä€/" * 42,
    },
    "commands": {
        "workspace_id": "ws",
        "idempotency_key": "k y" * 85,
        "fingerprint": b"f" * 32,
        "status": 201,
        "response": b"{}",
        "expires_at": NOW,
    },
}
TOKENS = ("aa x", "aa.b", "*", ">", "", "a" * 129, "r\r\nPUB x 1", "a\n", "ä")
BAD: dict[tuple[str, str], tuple[Any, ...]] = {
    ("rooms", "workspace_id"): TOKENS,
    ("rooms", "room_id"): TOKENS,
    ("rooms", "last_seq"): (MOST + 1, 2**63 - 1),
    ("events", "workspace_id"): TOKENS,
    ("events", "room_id"): TOKENS,
    ("events", "run_id"): TOKENS,
    ("events", "stream_seq"): (0, MOST + 1),
    ("events", "event_type"): ("run\nx", "run.created ", "Run", "", "r" * 129),
    ("events", "event_version"): (0, -1),
    ("events", "recorded_at"): (*INFINITE, FAR),
    ("events", "traceparent"): ("x\r\nNats-Rollup: all", "x" * 5_000_000, "", "00-" + "\n" * 52),
    ("events", "envelope"): (b"", b"x" * (2**24 + 1), b"{}\n", b"{}\r", b"{}\n\nevent: reset\ndata: {}"),
    ("runs", "thread_id"): TOKENS,
    ("runs", "version"): (0, -1, 2**30, 2**31 - 1),
    ("runs", "correlation_id"): ("", "a b", "a\n", "x" * 129),
    ("commands", "idempotency_key"): ("", "k" * 256),
    ("commands", "fingerprint"): (b"f" * 65,),
    ("commands", "status"): (0, 204, 500),
    ("commands", "response"): (b"x" * 8193,),
    ("commands", "expires_at"): (*INFINITE, FAR),
}


async def insert(connection: asyncpg.Connection, table: str, row: dict[str, Any]) -> None:
    places = ", ".join(f"${number}" for number in range(1, len(row) + 1))
    await connection.execute(f"insert into {table} ({', '.join(row)}) values ({places})", *row.values())


@pytest.mark.parametrize(("table", "column"), BAD)
async def test_what_no_service_writes_is_not_written(event_store_dsn: str, table: str, column: str) -> None:
    async with connected(as_role(event_store_dsn, "runroom_command")) as thief:
        for value in BAD[table, column]:
            with pytest.raises(asyncpg.CheckViolationError):
                await insert(thief, table, {**ROWS[table], column: value})
        transaction = thief.transaction()
        await transaction.start()
        await insert(thief, table, ROWS[table])  # which goes to the limits itself
        await transaction.rollback()


RELAY: dict[str, tuple[Any, ...]] = {
    "stream_created": ("x" * 65, "x" * 5_000_000),
    "stream_epoch": (-1, MOST + 1, 2**63 - 1),
    "stream_position": (-1, -(2**63)),
}


@pytest.mark.parametrize("column", RELAY)
async def test_what_no_relay_writes_is_not_written(event_store_dsn: str, column: str) -> None:
    async with connected(as_role(event_store_dsn, "runroom_command")) as thief:
        for value in RELAY[column]:
            with pytest.raises(asyncpg.CheckViolationError):
                await thief.execute(f"update relay set {column} = $1", value)
        await thief.execute("update relay set stream_created = repeat('x', 64), stream_epoch = $1", MOST)
        await thief.execute("update relay set stream_position = 9223372036854775807")


@pytest.mark.parametrize("column", RELAY)
async def test_what_no_relay_has_written_is_put_right(older: str, column: str) -> None:
    async with connected(older) as owner:
        await owner.execute("update relay set stream_created = '2026-11-28', stream_epoch = 1, stream_position = 2")
        await owner.execute(f"update relay set {column} = $1", RELAY[column][-1])
        assert await outbox.read_position(owner) == ("", 0, 0)
        await migrate(older, EVENT_STORE_MIGRATIONS)
        assert tuple(await owner.fetchrow("select * from relay") or ()) == (True, "", 0, 0)
        await owner.execute("update relay set stream_created = '2026-11-28', stream_epoch = 1, stream_position = 2")
        assert await outbox.read_position(owner) == ("2026-11-28", 1, 2)


async def test_however_far_rooms_seem_to_be_what_waits_can_be_counted(event_store_dsn: str) -> None:
    async with connected(event_store_dsn) as connection, running_pool(event_store_dsn, "test", most=1) as pool:
        await connection.execute(
            "insert into rooms select 'far', 'room_' || n, $1, 0 from generate_series(1, 1025) as n", MOST
        )
        assert await outbox.count_unpublished(pool, None) == (1025, 2**63 - 1, 0.0)


@pytest.fixture
async def older(postgres_server: EmbeddedPostgres, tmp_path: Path) -> AsyncGenerator[str, None]:
    """The owner's DSN of a store of the release before, with a room of one event."""
    postgres_server.execute("create database older owner runroom_migrate")
    dsn = postgres_server.dsn("older", "runroom_migrate")
    before = tmp_path / "migrations"
    before.mkdir()
    shutil.copy(EVENT_STORE_MIGRATIONS / "0001-event-store.sql", before)
    await migrate(dsn, before)
    async with connected(dsn) as owner:
        await insert(owner, "rooms", {"workspace_id": "ws", "room_id": "r", "last_seq": 1, "published_seq": 1})
        await insert(owner, "events", {**ROWS["events"], "workspace_id": "ws", "room_id": "r", "stream_seq": 1})
    yield dsn
    postgres_server.execute("drop database older with (force)")


async def checked(connection: asyncpg.Connection) -> dict[str, bool]:
    rows = await connection.fetch("select conname, convalidated from pg_constraint where conname ~ '_forms$'")
    return {row[0]: row[1] for row in rows}


async def test_a_store_at_work_is_upgraded_and_nobody_waits_behind_it(older: str) -> None:
    async with connected(older) as reader, connected(older) as writer, asyncio.timeout(PATIENCE):
        reading = reader.transaction()
        await reading.start()
        await reader.fetch("select * from events")
        upgrade = asyncio.create_task(migrate(older, EVENT_STORE_MIGRATIONS))
        waiting = "select count(*) from pg_stat_activity where wait_event = 'PgSleep' and datname = 'older'"
        while not await writer.fetchval(waiting):
            await asyncio.sleep(0.02)
        # Were it waiting for the reader, this would be behind it.
        await insert(writer, "events", {**ROWS["events"], "event_id": uuid.uuid4(), "stream_seq": 2})
        assert not upgrade.done()
        await reading.rollback()
        await upgrade
        assert await checked(writer) == dict.fromkeys(
            [*(f"{table}_forms" for table in (*ROWS, "relay")), "events_lines_forms", "runs_versions_forms"], True
        )
        assert await writer.fetchval("select count(*) from events") == 2


@pytest.mark.parametrize(
    ("tables", "change", "migration", "constraint"),
    [
        (("rooms", "events"), {"room_id": "aa.b"}, "0003-forms-of-all", "rooms_forms"),
        (("events",), {"room_id": "lines", "envelope": b"{}\n\n"}, "0005-lines-of-all", "events_lines_forms"),
        (("runs",), {"version": 2**31 - 1}, "0007-versions-of-all", "runs_versions_forms"),
    ],
    ids=["a form", "lines", "versions"],
)
async def test_a_store_that_holds_what_no_service_wrote_says_so_and_takes_no_more_of_it(
    older: str, tables: tuple[str, ...], change: dict[str, Any], migration: str, constraint: str
) -> None:
    async with connected(older) as owner:
        new = {"events": {"event_id": uuid.uuid4()}}
        for table in tables:
            await insert(owner, table, {**ROWS[table], **new.get(table, {}), **change})
        done = await asyncio.to_thread(
            subprocess.run,
            [sys.executable, "-m", "services.command", "migrate"],
            cwd=REPOSITORY,
            env={**os.environ, "EVENT_STORE_DSN": older},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 1
        said = done.stderr.splitlines()[-1]
        assert said.startswith(f"not migrated: Failed to apply {migration}: ")
        assert constraint in said
        assert "Traceback" not in done.stderr
        another = {"events": {"event_id": uuid.uuid4(), "stream_seq": 7}, "runs": {"run_id": "run_another"}}
        with pytest.raises(asyncpg.CheckViolationError):
            await insert(owner, tables[-1], {**ROWS[tables[-1]], **another[tables[-1]], **change})
        # As the manual has it.
        run_typed(
            "When a credential is stolen",
            'psql --set=ON_ERROR_STOP=1 "$EVENT_STORE_OWNER_DSN"',
            {"EVENT_STORE_OWNER_DSN": older},
        )
        await migrate(older, EVENT_STORE_MIGRATIONS)
        assert all((await checked(owner)).values())
        assert [tuple(row) for row in await owner.fetch("select room_id from rooms")] == [("r",)]
        assert not await owner.fetch("select from runs")
        assert [tuple(row) for row in await owner.fetch("select room_id from events")] == [("r",)]
        with pytest.raises(asyncpg.InsufficientPrivilegeError, match="append-only"):
            await owner.execute("delete from events")
