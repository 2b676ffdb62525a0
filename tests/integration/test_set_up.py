"""The scripts that make roles and databases, run again where somebody has been with stolen passwords."""

from __future__ import annotations

import asyncio
import subprocess
from contextlib import suppress
from pathlib import Path

import asyncpg
import pytest

from deploy.local import EmbeddedPostgres
from deploy.local.postgres import ROLES, binary
from deploy.scram import scram_verifier
from shared import postgres
from shared.postgres import MigrationError, connect, migrate, running_pool
from tests.integration.privileges import connected
from tests.support.servers import EVENT_STORE_MIGRATIONS, PROJECTION_MIGRATIONS, REPOSITORY

PATIENCE = 30.0
SCRIPTS = REPOSITORY / "deploy" / "postgres"
BOTH = (SCRIPTS / "roles.sql", SCRIPTS / "databases.sql")
HOSTILE = {
    "runroom_command": ("event_store", ("synchronous_commit = off", "search_path = nowhere")),
    "runroom_projector": ("projections", ("synchronous_commit = off", "search_path = nowhere")),
    "runroom_query": ("projections", ("local_preload_libraries = 'nonexistent'",)),
    "runroom_migrate": ("event_store", ("role = runroom_command", "default_transaction_read_only = on")),
}
"""What roles have made of their own settings in a database. With the third nobody gets in any more."""

SETTINGS = "select setrole::regrole, setdatabase, setconfig from pg_db_role_setting order by 1"
COMPANIONS = """
create schema companions;
create function companions.rise() returns boolean language plpgsql as $$
begin
    if (select rolsuper from pg_catalog.pg_roles where rolname = current_user) then
        execute 'alter role runroom_migrate superuser';
    end if;
    return true;
end
$$;
grant usage on schema companions to public;
grant execute on function companions.rise() to public;
create view companions.pg_proc as select p.* from pg_catalog.pg_proc as p where companions.rise();
create view companions.pg_class as select c.* from pg_catalog.pg_class as c where companions.rise();
grant select on companions.pg_proc, companions.pg_class to public;
alter database event_store set search_path = companions, pg_catalog, public;
"""


OF_NOTHING = [
    ("runroom_query", "revoke connect on database projections from public"),
    ("runroom_query", "revoke usage on schema public from public"),
    ("runroom_query", "revoke select on proj_runs from public"),
    ("runroom_query", "revoke execute on function proj_plain_bytes(json, json, json, text[]) from public"),
    ("runroom_command", "revoke connect on database event_store from public"),
    ("runroom_command", "revoke execute on function pg_try_advisory_lock(bigint) from public"),
    ("runroom_command", "revoke select on rooms from public"),
    ("runroom_migrate", "revoke usage on language plpgsql from public"),
    ("runroom_migrate", "alter default privileges revoke execute on routines from public"),
]
"""What a role may say of rights that are none of its own. PostgreSQL changes none, and writes the object's row."""

CATALOGUE = (
    "select xmin, oid, datacl from pg_database order by 2; select xmin, oid, lanacl from pg_language order by 2;"
    "select xmin, oid, nspacl from pg_namespace where nspname !~ '^pg_t' order by 2;"
    "select xmin, oid, proacl from pg_proc order by 2; select xmin, oid, defaclacl from pg_default_acl order by 2;"
    "select xmin, oid, relacl from pg_class where relnamespace = 'public'::regnamespace order by 2;"
    "select xmin, attrelid, attnum, attacl from pg_attribute where attacl is not null order by 2, 3"
)
MIGRATIONS = {"event_store": EVENT_STORE_MIGRATIONS, "projections": PROJECTION_MIGRATIONS}


async def make_hostile(server: EmbeddedPostgres) -> None:
    for role, (database, settings) in HOSTILE.items():
        async with connected(server.dsn(database, role)) as connection:
            await connection.execute("set default_transaction_read_only = off")
            for setting in settings:
                await connection.execute(f"alter role {role} in database {database} set {setting}")
            await connection.execute(f"alter role {role} set lock_timeout = 7")


def make_databases(server: EmbeddedPostgres) -> None:
    """By itself, as in a restore: what a database has been set to is still there."""
    done = run_script(SCRIPTS / "databases.sql", server=server)
    assert done.returncode == 0, done.stdout


def run_script(*scripts: Path, server: EmbeddedPostgres) -> subprocess.CompletedProcess[str]:
    """As a superuser, with the passwords there are; what psql says is all in ``stdout``."""
    passwords = {role: server.dsn("postgres", role).split(":")[2].split("@")[0] for role in ROLES}
    return subprocess.run(
        [binary("psql"), "--quiet", *(f"--file={script}" for script in scripts), server.dsn("postgres")],
        env={f"{role.upper()}_VERIFIER": scram_verifier(password) for role, password in passwords.items()},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )


async def test_what_was_made_of_settings_goes_when_the_set_up_is_run_again(fresh_postgres: EmbeddedPostgres) -> None:
    server = fresh_postgres
    before = server.execute(SETTINGS)
    await make_hostile(server)
    async with connected(server.dsn("projections", "runroom_migrate")) as owner:
        await owner.execute("set default_transaction_read_only = off")
        await owner.execute("alter database event_store set local_preload_libraries = 'nonexistent'")
        await owner.execute("alter database event_store with allow_connections false connection limit 0")
    server.stop()
    server.start()
    assert server.execute(SETTINGS) == before
    for role in ROLES:
        database, _ = HOSTILE[role]
        async with connected(server.dsn(database, role)) as connection:
            assert await connection.fetchval("select current_user") == role
            assert await connection.fetchval("show synchronous_commit") == "on"


@pytest.mark.parametrize("role", ["runroom_command", "runroom_projector"])
async def test_services_say_themselves_what_they_rely_on(fresh_postgres: EmbeddedPostgres, role: str) -> None:
    await make_hostile(fresh_postgres)
    database, _ = HOSTILE[role]
    dsn = fresh_postgres.dsn(database, role)
    try:
        connection = await connect(dsn, "test")
        assert await connection.fetchval("show synchronous_commit") == "on"
        assert await connection.fetchval("show search_path") == "public"
        await connection.close()
        async with running_pool(dsn, "test", most=1) as pool:
            assert await pool.fetchval("show synchronous_commit") == "on"
            assert await pool.fetchval("show search_path") == "public"
    finally:
        fresh_postgres.stop()
        fresh_postgres.start()


async def test_who_owns_a_database_gets_no_further_by_what_a_superuser_runs_in_it(
    fresh_postgres: EmbeddedPostgres,
) -> None:
    """By names of PostgreSQL's own that mean something else there."""
    async with connected(fresh_postgres.dsn("event_store", "runroom_migrate")) as owner:
        await owner.execute(COMPANIONS)
    make_databases(fresh_postgres)
    assert fresh_postgres.execute("select rolsuper from pg_roles where rolname = 'runroom_migrate'") == "f"


def test_a_server_that_is_too_old_is_named_in_one_sentence(fresh_postgres: EmbeddedPostgres, tmp_path: Path) -> None:
    """A server of ours, as if more were needed."""
    script = (SCRIPTS / "roles.sql").read_text()
    assert "< 170000" in script
    (tmp_path / "roles.sql").write_text(script.replace("< 170000", "< 990000"))
    done = run_script(tmp_path / "roles.sql", server=fresh_postgres)
    assert done.returncode == 3
    assert "ERROR:  Runroom needs PostgreSQL 17 or newer, and this server is 18" in done.stdout


@pytest.mark.parametrize("change", ["password 'mine'", "in database projections set work_mem = '1MB'"])
async def test_a_transaction_that_is_left_open_is_named_and_not_waited_for(
    fresh_postgres: EmbeddedPostgres, tmp_path: Path, change: str
) -> None:
    script = (SCRIPTS / "roles.sql").read_text()
    assert "lock_timeout = '10s'" in script
    (tmp_path / "roles.sql").write_text(script.replace("lock_timeout = '10s'", "lock_timeout = '100ms'"))
    async with connected(fresh_postgres.dsn("projections", "runroom_query")) as thief:
        await thief.execute("set default_transaction_read_only = off; set idle_in_transaction_session_timeout = 0")
        await thief.execute(f"begin; alter role runroom_query {change}")
        done = await asyncio.to_thread(run_script, tmp_path / "roles.sql", server=fresh_postgres)
        assert done.returncode == 3
        pid = await thief.fetchval("select pg_backend_pid()")
        assert f"changed roles or their settings, in the session with the pid {pid}\n" in done.stdout


@pytest.mark.parametrize(("role", "change"), OF_NOTHING)
async def test_a_row_that_somebody_keeps_locked_is_not_needed(
    fresh_postgres: EmbeddedPostgres, role: str, change: str
) -> None:
    await migrate_all(fresh_postgres)
    async with connected(fresh_postgres.dsn(HOSTILE[role][0], role)) as thief:
        await thief.execute("set default_transaction_read_only = off; set idle_in_transaction_session_timeout = 0")
        await thief.execute(f"begin; {change}")
        done = await asyncio.to_thread(run_script, *BOTH, server=fresh_postgres)
        assert done.returncode == 0, done.stdout
        async with asyncio.timeout(PATIENCE):
            await migrate_all(fresh_postgres)
        await thief.execute("commit")


async def test_what_is_so_already_is_not_written_again(fresh_postgres: EmbeddedPostgres) -> None:
    await migrate_all(fresh_postgres)
    before = [fresh_postgres.execute(CATALOGUE, database=name) for name in MIGRATIONS]
    done = run_script(*BOTH, server=fresh_postgres)
    assert done.returncode == 0, done.stdout
    await migrate_all(fresh_postgres)
    assert [fresh_postgres.execute(CATALOGUE, database=name) for name in MIGRATIONS] == before


@pytest.mark.parametrize(
    "said",
    [
        "alter database {} owner to runroom_projector",
        "grant all on database {} to runroom_command, runroom_query with grant option",
        "revoke connect on database {0} from runroom_projector;"
        "grant connect on database {0} to outsider with grant option; set role outsider;"
        "grant connect on database {0} to runroom_projector, public",
        "grant temporary on database {0} to outsider with grant option; set role outsider;"
        "grant temporary on database {0} to runroom_projector with grant option; set role runroom_projector;"
        "grant temporary on database {0} to runroom_command, public",
    ],
    ids=["another owner", "more than it needs", "in place of the owner", "handed on"],
)
@pytest.mark.parametrize("database", MIGRATIONS)
async def test_each_role_may_connect_where_it_should_and_no_more(
    fresh_postgres: EmbeddedPostgres, database: str, said: str
) -> None:
    """After one run, whatever was there before."""
    rights = (
        "select grantor::regrole, grantee::regrole, privilege_type, is_grantable, datname, datdba::regrole"
        " from pg_database, aclexplode(datacl) where datname in ('event_store', 'projections')"
        " and grantee::regrole::text <> 'outsider' order by 1, 2, 3, 4, 5"
    )
    make_databases(fresh_postgres)
    before = fresh_postgres.execute(rights)
    fresh_postgres.execute("drop role if exists outsider; create role outsider")
    fresh_postgres.execute(said.format(database))
    assert fresh_postgres.execute(rights) != before
    make_databases(fresh_postgres)
    assert fresh_postgres.execute(rights) == before
    fresh_postgres.execute("drop owned by outsider; drop role outsider")


async def test_who_keeps_a_row_locked_that_is_to_be_changed_is_named(
    fresh_postgres: EmbeddedPostgres, tmp_path: Path
) -> None:
    fresh_postgres.execute("grant connect on database projections to public")
    async with connected(fresh_postgres.dsn("projections", "runroom_query")) as thief:
        await thief.execute("set default_transaction_read_only = off; set idle_in_transaction_session_timeout = 0")
        # With the number of a transaction within his, which is over and has no lock any more.
        await thief.execute("begin; savepoint a; revoke connect on database projections from public; release a")
        done = await asyncio.to_thread(run_script, hasty(tmp_path), server=fresh_postgres)
        assert done.returncode == 3
        pid = await thief.fetchval("select pg_backend_pid()")
        assert (
            f"still open keeps this from being done, in the session with the pid {pid}: "
            "revoke all on database projections from public\n"
        ) in done.stdout
    make_databases(fresh_postgres)
    assert fresh_postgres.execute("select datacl from pg_database where datname = 'projections'").count("{=") == 0


async def test_a_row_that_is_written_all_the_while_is_changed_in_between(fresh_postgres: EmbeddedPostgres) -> None:
    busy = asyncio.Event()

    async def write_on() -> None:
        async with connected(fresh_postgres.dsn("projections", "runroom_query")) as thief:
            await thief.execute("set default_transaction_read_only = off")
            while True:
                with suppress(asyncpg.InternalServerError):  # others do the same
                    await thief.execute("revoke connect on database projections from public")
                    busy.set()

    for _ in range(5):
        fresh_postgres.execute("grant connect on database projections to public")
        busy.clear()
        thieves = [asyncio.create_task(write_on()) for _ in range(3)]
        await busy.wait()
        done = await asyncio.to_thread(run_script, SCRIPTS / "databases.sql", server=fresh_postgres)
        for thief in thieves:
            thief.cancel()
        await asyncio.gather(*thieves, return_exceptions=True)
        assert done.returncode == 0, done.stdout
        assert fresh_postgres.execute("select datacl from pg_database where datname = 'projections'").count("{=") == 0


async def migrate_all(server: EmbeddedPostgres) -> None:
    for name, migrations in MIGRATIONS.items():
        await migrate(server.dsn(name, "runroom_migrate"), migrations)


def hasty(folder: Path) -> Path:
    """``databases.sql`` of scripts that wait for no lock but an instant."""
    for script in SCRIPTS.glob("*.sql"):
        (folder / script.name).write_text(script.read_text().replace("lock_timeout = '10s'", "lock_timeout = '100ms'"))
    return folder / "databases.sql"


async def test_settings_of_a_role_of_postgresqls_own_go(fresh_postgres: EmbeddedPostgres) -> None:
    """As command could make them before this release, when it could become that role."""
    before = fresh_postgres.execute(SETTINGS)
    fresh_postgres.execute("grant pg_use_reserved_connections to runroom_command with set true")
    async with connected(fresh_postgres.dsn("event_store", "runroom_command")) as thief:
        await thief.execute("set role pg_use_reserved_connections; alter role current_user set search_path = a, b")
        await thief.execute("alter role current_user in database event_store set search_path = c")
    fresh_postgres.stop()
    fresh_postgres.start()
    assert fresh_postgres.execute(SETTINGS) == before
    async with connected(fresh_postgres.dsn("event_store", "runroom_command")) as thief:
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await thief.execute("set role pg_use_reserved_connections")


async def test_set_ups_at_once_go_one_after_another(fresh_postgres: EmbeddedPostgres) -> None:
    """Of a server that has both databases, and of one that has yet to get them."""
    for is_bare in (False, True):
        if is_bare:
            for database in ("event_store", "projections"):
                fresh_postgres.execute(f"drop database {database} with (force)")
        set_up = (asyncio.to_thread(run_script, *BOTH, server=fresh_postgres) for _ in range(4))
        for done in await asyncio.gather(*set_up):
            assert done.returncode == 0, done.stdout


async def test_a_set_up_waits_for_nothing_that_a_role_may_hold(fresh_postgres: EmbeddedPostgres) -> None:
    """Nor does it change what a migration may be changing. PREPARE locks its tables before it asks for any right."""
    schema = "select xmin, nspacl from pg_namespace where nspname = 'public'"
    before = fresh_postgres.execute(schema, database="projections")
    async with connected(fresh_postgres.dsn("projections", "runroom_query")) as thief:
        await thief.execute("set default_transaction_read_only = off; set idle_in_transaction_session_timeout = 0")
        await thief.execute("begin; prepare mine as delete from pg_catalog.pg_database")
        done = await asyncio.to_thread(run_script, SCRIPTS / "databases.sql", server=fresh_postgres)
        assert done.returncode == 0, done.stdout
    assert fresh_postgres.execute(schema, database="projections") == before


async def test_nothing_is_migrated_on_a_server_that_is_too_old(
    fresh_postgres: EmbeddedPostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres, "LEAST_POSTGRES", 99)
    with pytest.raises(MigrationError, match="needs PostgreSQL 99 or newer, and this server is 18"):
        await migrate(fresh_postgres.dsn("event_store", "runroom_migrate"), EVENT_STORE_MIGRATIONS)


def test_every_script_begins_with_the_names_of_postgresql() -> None:
    """Before it says anything else, in each database that it goes to."""
    for script in SCRIPTS.glob("*.sql"):
        text = script.read_text()
        first = next(line for line in text.splitlines() if line and not line.startswith(("--", "\\")))
        assert first == "set search_path = pg_catalog, pg_temp;", script.name
        for after in text.split("\\connect ")[1:]:
            assert after.splitlines()[1] == "\\ir ownership.sql", script.name
