"""One `migrate` gives each role what it is wanted to have, and nothing else, whatever it had before."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import pytest

from deploy.local import EmbeddedPostgres
from shared.postgres import migrate
from tests.integration.privileges import connected
from tests.support.servers import EVENT_STORE_MIGRATIONS, PROJECTION_MIGRATIONS, MigratedDatabases, as_role

RIGHTS = """
select o.object, o.column_name, a.grantor::regrole, a.grantee::regrole, a.privilege_type, a.is_grantable
from (
    select oid::regclass::text, '', coalesce(relacl, acldefault('r', relowner))
    from pg_class where relnamespace = 'public'::regnamespace
    union all
    select attrelid::regclass::text, attname, attacl
    from pg_attribute inner join pg_class as c on attrelid = c.oid where relnamespace = 'public'::regnamespace
    union all
    select oid::regprocedure::text, '', proacl from pg_proc where pronamespace = 'public'::regnamespace
    union all
    select nspname, '', nspacl from pg_namespace where nspname = 'public'
) as o (object, column_name, acl), aclexplode(acl) as a
where grantee <> 'outsider'::regrole
order by 1, 2, 3, 4, 5
"""


class Said(NamedTuple):
    """What somebody said of rights, as the owner or a role."""

    statement: str
    role: str = "runroom_migrate"


ALL = "all on all tables in schema public to"
COMMAND = [
    [Said("grant update on rooms to runroom_command")],
    [Said(f"grant {ALL} runroom_command, runroom_projector")],
    [Said(f"grant {ALL} runroom_command, runroom_projector with grant option")],
    [Said("revoke all on all tables in schema public from runroom_command")],
    [Said("grant select (last_seq), insert (last_seq) on rooms to runroom_command")],
    [Said("grant update (last_seq) on rooms to runroom_command with grant option")],
    [Said(f"grant {ALL} public"), Said("grant create on schema public to public, runroom_command")],
    [Said("grant execute on function refuse_event_change() to public, runroom_command")],
    # What somebody else has given it, as he might; in place of the owner, too.
    [Said(f"grant {ALL} outsider with grant option"), Said(f"grant {ALL} runroom_command", "outsider")],
    [Said("grant select on rooms to outsider with grant option"), Said("grant select on rooms to public", "outsider")],
    [
        Said("grant select on rooms to runroom_projector with grant option"),
        Said("revoke select on rooms from runroom_command"),
        Said("grant select on rooms to runroom_command", "runroom_projector"),
    ],
    [
        Said("grant update on rooms to runroom_projector with grant option"),
        Said("revoke update on rooms from runroom_command"),
        Said("grant update (last_seq, room_id) on rooms to runroom_command", "runroom_projector"),
    ],
    [
        Said("grant delete on events to outsider with grant option"),
        Said("grant delete on events to runroom_projector with grant option", "outsider"),
        Said("grant delete on events to runroom_command with grant option", "runroom_projector"),
        Said("grant delete on events to public", "runroom_command"),
    ],
    [
        Said("grant update on relay to outsider with grant option"),
        Said("grant update (stream_epoch, stream_created) on relay to runroom_command", "outsider"),
        # Which takes nothing of what he has given for a column.
        Said("revoke update on relay from outsider cascade"),
    ],
    [
        Said("grant usage on schema public to outsider with grant option"),
        Said("revoke usage on schema public from runroom_command"),
        Said("grant usage on schema public to runroom_command", "outsider"),
    ],
]
PROJECTOR = [
    [Said(f"grant {ALL} runroom_projector, runroom_query")],
    [Said("grant update on projector_leases to runroom_query with grant option")],
    [
        Said("grant select on proj_runs to runroom_projector with grant option"),
        Said("revoke select on proj_runs from runroom_query"),
        Said("grant select on proj_runs to runroom_query", "runroom_projector"),
    ],
    [Said("grant execute on all functions in schema public to runroom_query, runroom_projector with grant option")],
]


@pytest.fixture
def event_store_dsn(migrated_databases: MigratedDatabases) -> str:
    """Of each test: whatever one leaves there is nobody else's."""
    return migrated_databases.copy("event_store")


@pytest.fixture
def projection_dsn(migrated_databases: MigratedDatabases) -> str:
    return migrated_databases.copy("projections")


@pytest.fixture(autouse=True)
def outsider(postgres_server: EmbeddedPostgres) -> None:
    """A role that is none of Runroom's. It stays, as its rights in those databases do."""
    postgres_server.execute("do $$ begin create role outsider; exception when duplicate_object then null; end $$")


@pytest.mark.parametrize("said", COMMAND)
async def test_the_event_store_has_the_rights_that_are_wanted(event_store_dsn: str, said: list[Said]) -> None:
    await check_put_right(event_store_dsn, EVENT_STORE_MIGRATIONS, said)


@pytest.mark.parametrize("said", PROJECTOR)
async def test_the_projections_have_the_rights_that_are_wanted(projection_dsn: str, said: list[Said]) -> None:
    await check_put_right(projection_dsn, PROJECTION_MIGRATIONS, said)


async def test_what_others_have_is_left_to_them(postgres_server: EmbeddedPostgres, event_store_dsn: str) -> None:
    """A role that reads the tables, and has given one of ours what it may hand on."""
    of_outsider = RIGHTS.replace("<> 'outsider'", "= 'outsider'")
    async with connected(event_store_dsn) as superuser:
        await superuser.execute("grant usage on schema public to outsider")
        await superuser.execute("grant select on all tables in schema public to outsider")
        await superuser.execute("grant update (last_seq) on rooms to outsider")
        before = await superuser.fetch(of_outsider)
        await superuser.execute("grant select, update (last_seq) on rooms to outsider with grant option")
        await superuser.execute("grant update on relay to outsider with grant option")
        await superuser.execute("set role outsider; grant select, update (last_seq) on rooms to runroom_projector")
        await superuser.execute("grant update (stream_epoch) on relay to runroom_projector; reset role")
        await superuser.execute("revoke update on relay from outsider cascade")
        await migrate(as_role(event_store_dsn, "runroom_migrate"), EVENT_STORE_MIGRATIONS)
        assert await superuser.fetch(of_outsider) == before


async def check_put_right(dsn: str, migrations: Path, said: list[Said]) -> None:
    async with connected(dsn) as superuser:
        await superuser.execute("grant usage on schema public to outsider")
        before = await superuser.fetch(RIGHTS)
        for statement, role in said:
            await superuser.execute(f"set role {role}; {statement}; reset role")
        assert await superuser.fetch(RIGHTS) != before
        await migrate(as_role(dsn, "runroom_migrate"), migrations)
        assert await superuser.fetch(RIGHTS) == before
