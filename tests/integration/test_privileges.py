"""Every role does its service's work and nothing else, in a new deployment and in one that had no roles before."""

from __future__ import annotations

import subprocess
from contextlib import AsyncExitStack
from pathlib import Path

import asyncpg
import pytest

from deploy.local import EmbeddedPostgres
from deploy.local.postgres import ROLES, USER, binary
from shared.postgres import migrate
from tests.integration.privileges import RULES, allows, check_rights, connected
from tests.support.servers import EVENT_STORE_MIGRATIONS, PROJECTION_MIGRATIONS, running_postgres

MIGRATIONS = {"event_store": EVENT_STORE_MIGRATIONS, "projections": PROJECTION_MIGRATIONS}
LOGINS = [
    ("event_store", "runroom_command"),
    ("event_store", "runroom_projector"),
    ("projections", "runroom_projector"),
    ("projections", "runroom_query"),
]
"""Which service's role is used in which database."""


async def test_each_role_may_do_with_each_table_what_its_rule_says(event_store_dsn: str, projection_dsn: str) -> None:
    tables = await check_rights("event_store", event_store_dsn)
    assert set(tables) == set(RULES["event_store"])
    tables = await check_rights("projections", projection_dsn)
    assert set(tables) == {table.replace("_vN", "_v1") for table in RULES["projections"]}


async def test_a_table_that_nobody_thought_of_is_nobodys(
    postgres_server: EmbeddedPostgres, event_store_dsn: str
) -> None:
    database = event_store_dsn.rpartition("/")[2]
    async with connected(postgres_server.dsn(database, "runroom_migrate")) as owner:
        await owner.execute("create table later (n integer)")
        try:
            with pytest.raises(KeyError, match="later"):
                await check_rights("event_store", event_store_dsn)
            for role in ("runroom_command", "runroom_projector"):
                async with connected(postgres_server.dsn(database, role)) as connection:
                    assert not await allows(connection, "select from later")
        finally:
            await owner.execute("drop table later")


async def test_what_a_role_was_given_by_hand_goes_with_the_next_migration(
    postgres_server: EmbeddedPostgres, event_store_dsn: str
) -> None:
    owner = postgres_server.dsn(event_store_dsn.rpartition("/")[2], "runroom_migrate")
    async with connected(owner) as connection:
        await connection.execute("grant delete, update (envelope) on events to runroom_command")
    with pytest.raises(AssertionError):
        await check_rights("event_store", event_store_dsn)
    await migrate(owner, EVENT_STORE_MIGRATIONS)
    await check_rights("event_store", event_store_dsn)


@pytest.mark.parametrize(
    ("database", "role"),
    [
        ("event_store", "runroom_query"),
        ("projections", "runroom_command"),
        *((database, role) for database in ("postgres", "template1") for role in ROLES),
    ],
)
async def test_no_role_gets_into_a_database_that_is_none_of_its_business(
    postgres_server: EmbeddedPostgres, database: str, role: str
) -> None:
    with pytest.raises(asyncpg.InsufficientPrivilegeError, match="permission denied for database"):
        async with connected(postgres_server.dsn(database, role)):
            pass


@pytest.mark.parametrize(("database", "role"), LOGINS)
@pytest.mark.usefixtures("migrated_databases")
async def test_a_role_makes_nothing_and_becomes_nobody(
    postgres_server: EmbeddedPostgres, database: str, role: str
) -> None:
    async with connected(postgres_server.dsn(database, role)) as connection:
        await connection.execute("set default_transaction_read_only = off")
        for statement in (
            "create table more (n integer)",
            "create temporary table more (n integer)",
            "create schema more",
            "create function more() returns integer language sql return 1",
            "create role more",
            f"alter role {role} connection limit 5",
            "set role runroom_migrate",
            "set role pg_use_reserved_connections",
            f"set session authorization {USER}",
            f"grant runroom_migrate to {role}",
            "select rolpassword from pg_authid",
            "select pg_read_file('PG_VERSION')",
            "copy (select 1) to program 'true'",
            "select refuse_event_change()" if database == "event_store" else "select proj_run_tags_add()",
        ):
            assert not await allows(connection, statement), statement


@pytest.mark.parametrize(
    ("database", "role", "may"),
    [
        ("event_store", "runroom_command", {"pg_try_advisory_lock(bigint)"}),
        ("event_store", "runroom_projector", set[str]()),
        ("projections", "runroom_projector", set[str]()),
        ("projections", "runroom_query", set[str]()),
    ],
)
async def test_no_role_takes_locks_that_others_live_by_or_writes_beside_its_tables(
    postgres_server: EmbeddedPostgres, database: str, role: str, may: set[str]
) -> None:
    functions = (
        "select p.oid::regprocedure::text from pg_proc as p where p.pronamespace = 'pg_catalog'::regnamespace"
        " and p.proname ~ 'advisory|^lo_|lowrite|loread|logical_emit|export_snapshot|pg_current_xact_id$|txid_current$"
        "|^pg_(restore|clear)_.*_stats$'"
    )
    async with connected(postgres_server.dsn(database, role)) as connection:
        assert await connection.fetchval(f"select count(*) from ({functions}) as f") > 30
        allowed = await connection.fetch(f"{functions} and has_function_privilege(p.oid, 'execute')")
        assert {row[0] for row in allowed} == may
        assert not await allows(connection, "select lo_from_bytea(0, 'x')")
        assert not await allows(connection, "select pg_logical_emit_message(false, 'x', 'y')")
        assert not await allows(connection, "select pg_export_snapshot()")


@pytest.mark.parametrize("database", MIGRATIONS)
@pytest.mark.usefixtures("migrated_databases")
def test_the_owner_still_dumps_in_parallel(postgres_server: EmbeddedPostgres, tmp_path: Path, database: str) -> None:
    """For which its connections share a snapshot."""
    options = ("--jobs=2", "--format=directory", f"--file={tmp_path / 'dump'}")
    dsn = postgres_server.dsn(database, "runroom_migrate")
    done = subprocess.run([binary("pg_dump"), *options, dsn], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("database", "role", "limit"),
    [
        ("event_store", "runroom_command", "32MB"),
        ("event_store", "runroom_projector", "4GB"),
        ("projections", "runroom_projector", "4GB"),
        ("projections", "runroom_query", "32MB"),
    ],
)
async def test_no_role_writes_more_temporary_files_than_it_may(
    fresh_postgres: EmbeddedPostgres, database: str, role: str, limit: str
) -> None:
    dsn = fresh_postgres.dsn(database, role)
    async with connected(dsn) as connection:
        await connection.execute("set default_transaction_read_only = off")
        for statement in (
            "set temp_file_limit = -1",
            f"alter role {role} set temp_file_limit = -1",
            f"alter role {role} in database {database} set temp_file_limit = -1",
        ):
            assert not await allows(connection, statement), statement
        await connection.execute(f"alter role {role} reset all")
    async with connected(dsn) as connection:
        assert await connection.fetchval("show temp_file_limit") == limit
        if limit == "32MB":
            with pytest.raises(asyncpg.ConfigurationLimitExceededError):
                await connection.execute("select from generate_series(1, 5000000) as n order by n desc offset 1")


@pytest.mark.parametrize(("database", "role"), LOGINS)
async def test_no_role_fills_the_log(fresh_postgres: EmbeddedPostgres, database: str, role: str) -> None:
    dsn = fresh_postgres.dsn(database, role)
    async with connected(dsn) as connection:
        await connection.execute("set default_transaction_read_only = off")
        for setting in ("log_min_messages", "log_min_error_statement"):
            assert not await allows(connection, f"set {setting} = debug5")
            assert not await allows(connection, f"alter role {role} set {setting} = debug5")
        assert not await allows(connection, "do $$ begin raise warning '%', repeat('y', 3000000); end $$")
        await connection.execute(f"alter role {role} reset all")
    async with connected(dsn) as connection:
        before = fresh_postgres.log_file.stat().st_size
        with pytest.raises(asyncpg.DataError):
            await connection.fetchval("select repeat('x', 3000000)::integer")
        with pytest.raises(asyncpg.PostgresError):
            await connection.execute(f"select pg_terminate_backend(pg_backend_pid()) /* {'z' * 3_000_000} */")
        assert fresh_postgres.log_file.stat().st_size < before + 10_000


async def test_a_queue_that_nobody_uses_does_not_fill_the_disk(postgres_server: EmbeddedPostgres) -> None:
    dsn = postgres_server.dsn("projections", "runroom_query")
    async with connected(dsn) as reader, connected(dsn) as thief:
        await reader.execute("begin; listen anything")
        await reader.execute("commit; begin; select 1")  # it takes nothing meanwhile
        with pytest.raises(asyncpg.ProgramLimitExceededError, match="NOTIFY queue"):
            await thief.execute(
                "select pg_notify('anything', n || repeat('x', 7900)) from generate_series(1, 100) as n"
            )


async def test_roles_are_no_more_than_roles(postgres_server: EmbeddedPostgres) -> None:
    marks = "rolsuper or rolcreatedb or rolcreaterole or rolreplication or rolbypassrls"
    assert postgres_server.execute(f"select rolname from pg_roles where rolname ~ '^runroom_' and ({marks})") == ""
    members = "select member::regrole, roleid::regrole from pg_auth_members where member::regrole::text ~ '^runroom_'"
    assert set(postgres_server.execute(members).splitlines()) == {
        "runroom_command|pg_use_reserved_connections",
        "runroom_migrate|pg_use_reserved_connections",
    }


async def test_no_role_takes_the_connections_of_another() -> None:
    """Each takes all that it may have, and all that the others may have is still there."""
    with running_postgres(max_connections=63) as server:
        async with AsyncExitStack() as stack:
            for role, databases, share in (
                ("runroom_query", ["projections"], 20),
                ("runroom_projector", ["event_store", "projections"], 20),
                ("runroom_command", ["event_store"], 6),
                ("runroom_migrate", ["event_store", "projections"], 4),
            ):
                for number in range(share):
                    await stack.enter_async_context(connected(server.dsn(databases[number % len(databases)], role)))
                for database in databases:
                    with pytest.raises(asyncpg.TooManyConnectionsError, match="too many connections for role"):
                        await stack.enter_async_context(connected(server.dsn(database, role)))


async def test_commands_find_a_connection_that_is_kept_for_them() -> None:
    with running_postgres(max_connections=63) as server:
        async with AsyncExitStack() as stack:
            for _ in range(50):
                await stack.enter_async_context(connected(server.dsn("postgres")))
            with pytest.raises(asyncpg.TooManyConnectionsError, match="pg_use_reserved_connections"):
                await stack.enter_async_context(connected(server.dsn("projections", "runroom_query")))
            for role in ("runroom_command", "runroom_migrate"):
                await stack.enter_async_context(connected(server.dsn("event_store", role)))


async def test_shares_of_connections_follow_the_server(tmp_path: Path) -> None:
    for most in (63, 113):
        server = EmbeddedPostgres(tmp_path / "server", max_connections=most)
        server.start()
        try:
            limits = server.execute("select rolconnlimit from pg_roles where rolname ~ '^runroom_' order by 1")
            assert sum(map(int, limits.splitlines())) == most - 13
        finally:
            server.stop()


async def test_the_query_service_writes_nothing_even_where_it_might(
    postgres_server: EmbeddedPostgres, projection_dsn: str
) -> None:
    async with connected(postgres_server.dsn(projection_dsn.rpartition("/")[2], "runroom_query")) as connection:
        with pytest.raises(asyncpg.ReadOnlySQLTransactionError):
            await connection.execute("create table more (n integer)")


async def test_the_server_is_told_no_password(postgres_server: EmbeddedPostgres) -> None:
    """Statements that fail are logged as they came."""
    stored = postgres_server.execute("select rolpassword from pg_authid where rolname ~ '^runroom_'").splitlines()
    assert len(stored) == len(ROLES)
    assert all(text.startswith("SCRAM-SHA-256$4096:") for text in stored)


async def test_a_deployment_of_one_owner_gets_roles_and_keeps_its_rows(fresh_postgres: EmbeddedPostgres) -> None:
    """As an earlier release left it: everything is the superuser's, and anybody may connect."""
    server = fresh_postgres
    for name in MIGRATIONS:
        server.execute(f"drop database {name}")
    drops = "".join(f"drop role {role};" for role in ROLES)
    server.execute(drops)
    for name, migrations in MIGRATIONS.items():
        server.execute(f"create database {name} template template0 locale_provider builtin builtin_locale 'C.UTF-8'")
        await migrate(server.dsn(name), migrations)
    server.execute(
        "insert into rooms (workspace_id, room_id, last_seq) values ('ws', 'kept', 1)", database="event_store"
    )
    server.stop()
    server.start()
    for name, migrations in MIGRATIONS.items():
        await migrate(server.dsn(name, "runroom_migrate"), migrations)
        await check_rights(name, server.dsn(name))
        owners = server.execute(
            "select distinct tableowner from pg_tables where schemaname = 'public'"
            " union select distinct viewowner from pg_views where schemaname = 'public'"
            " union select distinct proowner::regrole::name from pg_proc where pronamespace = 'public'::regnamespace",
            database=name,
        )
        assert owners == "runroom_migrate"
    assert server.execute("select room_id from rooms", database="event_store") == "kept"
