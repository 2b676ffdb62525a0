"""The tags of runs, kept beside them: by whatever inserts runs, and from what was there before they were kept."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest

from deploy.local import EmbeddedPostgres
from services.projector.copying import COPIES, copy_rows
from services.projector.projections.base import Recorded, RoomEvents, Write, fold
from services.projector.projections.runs import Runs
from shared.postgres import Connection, load_queries, migrate
from tests.integration.projector.history import RoomHistory
from tests.support.servers import PROJECTION_MIGRATIONS, REPOSITORY

_SQL = load_queries(REPOSITORY / "services" / "projector" / "sql")
_DIFFERING = load_queries(REPOSITORY / "services" / "projector" / "verify" / "sql")["run_tags_differing"]


@pytest.fixture
async def connection(projection_dsn: str) -> AsyncIterator[Connection]:
    connection = await asyncpg.connect(projection_dsn)
    await connection.execute("truncate proj_runs_v1, proj_run_tags_v1")
    yield connection
    await connection.close()


def created(*tags: tuple[str, ...]) -> tuple[Write, set[tuple[str, str, str]]]:
    """The write of a room's new runs with these tags, and what is to be in the table: tag, run, room."""
    history = RoomHistory("tagged")
    run_ids = [f"run_{number:026}" for number in range(len(tags))]
    for run_id, given in zip(run_ids, tags, strict=True):
        history.created(run_id, tags=given)
    recorded = [Recorded(event.seq, 0, event.envelope) for event in history.events]
    (write,) = fold(Runs(), [RoomEvents(history.key, recorded)])
    return write, {(tag, run_id, "tagged") for run_id, given in zip(run_ids, tags, strict=True) for tag in given}


async def kept(connection: Connection) -> list[tuple[str, str, str]]:
    """Every row; each must be as its run is."""
    rows = await connection.fetch(
        """select t.tag, t.run_id, t.room_id, t.workspace_id = r.workspace_id and t.created_at = r.created_at as right
        from proj_run_tags t join proj_runs r using (run_id) order by 1, 2"""
    )
    assert all(row["right"] for row in rows)
    return [tuple(row)[:3] for row in rows]


async def test_a_statement_and_a_copy_leave_each_tag_once(connection: Connection) -> None:
    write, expected = created(("red", "blue"), (), ("red", 'a"b', "red"), ("c\\,d", "ü"))
    async with connection.transaction():
        await connection.execute(_SQL[write.query], *write.columns)
    assert await kept(connection) == sorted(expected)
    # The same runs once more, and further on, where they are told to be there already: neither is inserted again.
    assert not await connection.fetch(_SQL[write.query], *write.columns)
    assert await connection.fetch(_SQL[write.query], *write.columns[:-1], [seq + 10 for seq in write.columns[-1]])
    assert await kept(connection) == sorted(expected)
    await connection.execute("truncate proj_runs_v1, proj_run_tags_v1")
    await copy_rows(connection, COPIES[write.query], write, 1)
    assert await kept(connection) == sorted(expected)


async def test_a_run_of_very_many_tags_takes_no_time_that_others_would_miss(connection: Connection) -> None:
    """More than any service gives one, and more than a row may have by its form; as many as an event holds."""
    await connection.execute("alter table proj_runs_v1 drop constraint proj_runs_v1_forms")
    write, _ = created(("red",))
    columns = [*write.columns]
    columns[11] = ["{" + ",".join(f"t{number},t{number}" for number in range(100_000)) + "}"]
    await connection.execute(_SQL[write.query], *columns, timeout=20)
    assert await connection.fetchval("select count(*) from proj_run_tags") == 100_000
    assert await connection.fetch(_DIFFERING, timeout=20) == []


async def test_what_is_rolled_back_leaves_none(connection: Connection) -> None:
    write, _ = created(("red",))
    transaction = connection.transaction()
    await transaction.start()
    await connection.execute(_SQL[write.query], *write.columns)
    await transaction.rollback()
    assert await kept(connection) == []


async def test_runs_from_before_the_migration_have_their_tags(
    postgres_server: EmbeddedPostgres, tmp_path: Path
) -> None:
    """In every version that may be written to again; one that is being filled gets them in the end."""
    postgres_server.execute("create database from_before")
    dsn = postgres_server.dsn("from_before")
    for path in PROJECTION_MIGRATIONS.glob("*.sql"):
        if path.name < "0006":
            shutil.copy(path, tmp_path)
    await migrate(dsn, tmp_path)
    connection = await asyncpg.connect(dsn)
    write, expected = created(("red", "blue", "red"), ("red",))
    await connection.execute(_SQL[write.query], *write.columns)
    schema = load_queries(REPOSITORY / "services" / "projector" / "schema")["runs"]
    for version, state in ((2, "retired"), (3, "building")):
        await connection.execute(schema.replace("_vN", f"_v{version}"))
        await connection.execute(
            "insert into projector_versions (projection, version, name, state) values ('runs', $1, $2, $3)",
            version,
            f"runs@{version}",
            state,
        )
    await connection.execute("insert into proj_runs_v2 select * from proj_runs_v1 where tags = '{red}'")
    await migrate(dsn, PROJECTION_MIGRATIONS)
    assert await kept(connection) == sorted(expected)
    assert [row[0] for row in await connection.fetch("select tag from proj_run_tags_v2")] == ["red"]
    assert await connection.fetchval("select to_regclass('proj_run_tags_v3')") is None
    # What comes now is kept too.
    await connection.execute("update proj_runs_v1 set run_id = 'before' || run_id")
    await connection.execute("truncate proj_run_tags_v1")
    await connection.execute(_SQL[write.query], *write.columns)
    assert await kept(connection) == sorted(expected)
    await connection.close()
