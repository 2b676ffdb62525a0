"""What each role may do with each table and view, and the way to see that it can do that and nothing else.

Invariant: nothing is left open. A table without a rule here is an error, and so is a right without one.
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import NamedTuple

import asyncpg
import pytest

from tests.support.servers import as_role

ROLES = ("command", "projector", "query")
_OTHER_RIGHTS = ("REFERENCES", "TRIGGER", "MAINTAIN")


class Rights(NamedTuple):
    """``update`` are the columns that may be. ``lock``: keep everybody else out, readers too."""

    select: bool = False
    insert: bool = False
    update: frozenset[str] = frozenset()
    delete: bool = False
    others: frozenset[str] = frozenset()
    lock: bool = False


def _rights(text: str) -> Rights:
    """From words as they stand in a grant: ``select insert update(a,b) delete maintain``.

    ``lock`` is said of a table that may be deleted from or maintained: PostgreSQL asks for no more than that.
    """
    words = text.split()
    columns = [word[7:-1].split(",") for word in words if word.startswith("update(")]
    return Rights(
        "select" in words,
        "insert" in words,
        frozenset(columns[0]) if columns else frozenset(),
        "delete" in words,
        frozenset({"MAINTAIN"} & {word.upper() for word in words}),
        "lock" in words,
    )


_RUN_MOVES = "status,output,error,summary,started_at,ended_at,updated_at,last_event_id,stream_seq"
_VIEW = {"projector": "select", "query": "select"}

RULES: dict[str, dict[str, dict[str, str]]] = {
    "event_store": {
        "rooms": {"command": "select insert update(last_seq,published_seq) maintain lock", "projector": "select"},
        "events": {"command": "select insert", "projector": "select"},
        "runs": {"command": "select insert update(status,version,last_event_id)", "projector": "select"},
        "commands": {"command": "select insert update(fingerprint,status,response,expires_at) delete lock"},
        "relay": {
            "command": "select update(stream_created,stream_epoch,stream_position)",
            "projector": "select",
        },
        "_pogo_migration": {},
        "_pogo_version": {},
    },
    "projections": {
        "projector_workers": {"projector": "select insert update(projections,expires_at) delete lock"},
        "projector_leases": {"projector": "select insert update(owner,epoch,stream_identity,stream_position)"},
        "projector_parked": {
            "projector": "select insert update(error,attempts,tried_at,wanted,skipped_at) delete lock",
        },
        "projector_versions": {"projector": "select"},
        "proj_rooms": {"projector": "select insert update(applied_seq,updated_at)"},
        "proj_runs_vN": {"projector": f"select insert update({_RUN_MOVES})"},
        "proj_steps_vN": {"projector": "select insert"},
        "proj_room_events_vN": {"projector": "select insert"},
        "proj_run_tags_vN": {"projector": "insert"},
        "proj_runs": _VIEW,
        "proj_steps": _VIEW,
        "proj_run_tags": _VIEW,
        "proj_room_events": _VIEW,
        "proj_applied": _VIEW,
        "_pogo_migration": {},
        "_pogo_version": {},
    },
}
"""Database, table (of whatever version), role."""


async def check_rights(database: str, dsn: str) -> list[str]:
    """Tries everything with every table, as every role that may connect. The names of the tables."""
    async with connected(dsn) as superuser:
        rows = await superuser.fetch(
            "select c.relname, c.relkind = 'v', array_agg(a.attname order by a.attnum) from pg_class as c"
            " join pg_attribute as a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped"
            " where c.relnamespace = 'public'::regnamespace and c.relkind not in ('i', 'I', 'c')"
            " group by 1, 2 order by 1"
        )
    rules = RULES[database]
    for role in ROLES:
        expected = {table: _rights(rules[_unversioned(table)].get(role, "")) for table, *_ in rows}
        if all(rights == Rights() for rights in expected.values()):
            with pytest.raises(asyncpg.InsufficientPrivilegeError, match="permission denied for database"):
                async with connected(as_role(dsn, f"runroom_{role}")):
                    pass
            continue
        async with connected(as_role(dsn, f"runroom_{role}")) as connection:
            await connection.execute("set default_transaction_read_only = off")
            found = {table: await _try_all(connection, table, *row) for table, *row in rows}
        assert found == expected, (database, role)
    return [table for table, *_ in rows]


async def _try_all(connection: asyncpg.Connection, table: str, is_view: bool, columns: list[str]) -> Rights:
    changes = (f"drop table {table}", f"truncate {table}", f"alter table {table} add column more integer")
    for statement in (f"drop view {table}",) if is_view else changes:
        assert not await allows(connection, statement), statement
    others = [
        right
        for right in _OTHER_RIGHTS
        if await connection.fetchval("select has_table_privilege($1, $2)", table, right)
    ]
    return Rights(
        await allows(connection, f"select * from {table}"),
        await allows(connection, f"insert into {table} default values"),
        frozenset(
            [
                column
                for column in columns
                if await allows(connection, f"update {table} set {column} = null where false")
            ]
        ),
        await allows(connection, f"delete from {table} where false"),
        frozenset(others),
        await allows(connection, f"lock table {table} in access exclusive mode"),
    )


async def allows(connection: asyncpg.Connection, statement: str) -> bool:
    """Whether a statement does not fail for want of a right. What it does is taken back."""
    transaction = connection.transaction()
    await transaction.start()
    try:
        await connection.execute(statement)
    except asyncpg.InsufficientPrivilegeError:
        return False
    except asyncpg.ObjectNotInPrerequisiteStateError:
        return False  # a view that nobody can write to
    except asyncpg.IntegrityConstraintViolationError:
        return True  # it came further than that
    finally:
        await transaction.rollback()
    return True


def _unversioned(table: str) -> str:
    return re.sub(r"_v\d+$", "_vN", table)


@asynccontextmanager
async def connected(dsn: str) -> AsyncGenerator[asyncpg.Connection, None]:
    connection = await asyncpg.connect(dsn)
    try:
        yield connection
    finally:
        await connection.close()
