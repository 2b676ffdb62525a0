"""Reaching PostgreSQL: pools, named SQL files, migrations.

Invariant: a database's schema is changed by one process at a time, and only by the migrations of the service that
owns it. What other roles may do there is written beside those migrations, and applied with them.
"""

import asyncio
import contextlib
import logging
import re
from collections.abc import AsyncGenerator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, unquote, urlsplit

import asyncpg
from pogo_core.error import BadMigrationError
from pogo_core.util import migrate as pogo

from shared.pool import MeasuredPool
from shared.settings import MOST_PORT, Environment

if TYPE_CHECKING:
    Connection = asyncpg.Connection[asyncpg.Record]
    Pool = asyncpg.Pool[asyncpg.Record]
else:
    Connection = asyncpg.Connection
    Pool = asyncpg.Pool

LEAST_POSTGRES = 17
"""The oldest major version that knows all that migrations and grants say. As in ``deploy/postgres/roles.sql``."""

MIGRATION_LOCK = 0x52756E726F6F6D
"""Advisory lock key held while migrating or granting: the bytes of "Runroom"."""

STORE_ERRORS = (
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    OSError,
    TimeoutError,
)
"""What a database that is away, restarting or refusing raises.

``InternalClientError`` too: the driver's state machine raises it when a connection breaks between two of its steps.
"""


def report(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """For ``loop.set_exception_handler``: all that nobody heard of, but what somebody did.

    Where PostgreSQL has told a connection its end, asyncpg begins no COPY any more and raises ``InternalClientError``.
    It leaves the answer that it would have waited for, which then fails with the connection.
    """
    left = type(context.get("future")) is asyncio.Future
    if not (left and isinstance(context.get("exception"), asyncpg.ConnectionDoesNotExistError)):
        loop.default_exception_handler(context)


_CHANGES = (Path(__file__).parent / "grants.sql").read_text(encoding="utf-8")
_TURNS = (1, 2, 3)
"""What others have handed on is taken back, then what a role has too much, and then it is given what it lacks."""


class MigrationError(Exception):
    """The database cannot be brought up to date. The message is one plain sentence."""


FIND_THE_GONE = "set tcp_keepalives_idle = 5; set tcp_keepalives_interval = 2; set tcp_keepalives_count = 3"
"""A session's settings, for one that holds locks: who is gone with its machine is found to be in some ten seconds."""
_SCHEMES = ("postgresql", "postgres")
_SSL_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
_TARGETS = ("any", "primary", "standby", "prefer-standby", "read-write", "read-only")
_IPV6 = re.compile(r"\[[^\]]+\](?::(.*))?")


def read_dsn(env: Environment, name: str, default: str | None = None) -> str:
    """The variable: a DSN that the driver can connect with, if there is a server. Faults never quote it."""
    dsn = env.url(name, _SCHEMES, default)
    try:
        parts = urlsplit(dsn)
        # As the driver reads it: of several values the last one counts.
        query = {key: values[-1] for key, values in parse_qs(parts.query, strict_parsing=bool(parts.query)).items()}
    except ValueError:
        env.fault(f"{name} has parameters that are not written as name=value")
        return dsn
    if parts.scheme not in _SCHEMES:
        return dsn  # which is a fault already, or the default
    from_url = parts.netloc.partition("@")[2] if "@" in parts.netloc else parts.netloc
    hosts = (from_url or query.get("host", "")).split(",")
    ports = [_port_of(unquote(host) if from_url else host) for host in hosts]
    if "port" in query and not from_url:
        ports += query["port"].split(",")
        if len(ports) - len(hosts) not in (1, len(hosts)):
            env.fault(f"{name} has another number of ports than of hosts")
    if "@" in from_url:
        env.fault(f"{name} has an @ in its host: in a password it is written as %40")
    elif hosts != [""] and "" in hosts:
        env.fault(f"{name} names an empty host")
    if not all(_is_port(port) for port in ports if port):
        env.fault(
            f"{name} has a port that is not a number from 1 to {MOST_PORT}; what is special in a password is escaped"
        )
    if query.get("sslmode", "prefer").replace("_", "-") not in _SSL_MODES:
        env.fault(f"{name} has an sslmode that is none of {', '.join(_SSL_MODES)}")
    if query.get("target_session_attrs", "any") not in _TARGETS:
        env.fault(f"{name} has target_session_attrs that are none of {', '.join(_TARGETS)}")
    # Either alone has a default, as in libpq: the local socket, and the role's own database.
    is_named = hosts != [""] or parts.path.strip("/") or query.keys() & {"dbname", "database", "service"}
    if not (is_named or any(map(env.optional, ("PGHOST", "PGDATABASE", "PGSERVICE")))):
        env.fault(f"{name} names neither a host nor a database")
    return dsn


def _port_of(host: str) -> str:
    """What stands behind a host, empty when nothing does."""
    if host.startswith("/"):
        return ""
    if host.startswith("["):
        found = _IPV6.fullmatch(host)
        return (found[1] or "") if found else "none"
    return host.partition(":")[2]


def _is_port(text: str) -> bool:
    return text.isdecimal() and 1 <= int(text) <= MOST_PORT


def load_queries(directory: Path) -> dict[str, str]:
    """Every ``name.sql`` of the directory as name → text."""
    return {path.stem: path.read_text(encoding="utf-8") for path in sorted(directory.glob("*.sql"))}


async def connect(
    dsn: str,
    application_name: str,
    *,
    command_timeout: float | None = None,
    parameters: Mapping[str, str] | None = None,
) -> Connection:
    """One connection, within 5 s. Raises ``STORE_ERRORS``.

    ``command_timeout`` in seconds bounds every statement; ``parameters`` are set in the session.
    """
    return await asyncpg.connect(
        dsn,
        timeout=5.0,
        command_timeout=command_timeout,
        server_settings={**_server_settings(application_name), **(parameters or {})},
    )


@contextlib.asynccontextmanager
async def connected(
    dsn: str, application_name: str, *, command_timeout: float | None = None
) -> AsyncGenerator[Connection, None]:
    """One connection as of ``connect``, for the length of the block. Raises ``STORE_ERRORS``.

    A statement that nobody waits for any more ends within a second, whatever it is doing, and with it what it holds.
    """
    connection = await connect(
        dsn,
        application_name,
        command_timeout=command_timeout,
        parameters={"client_connection_check_interval": "1s"},
    )
    try:
        yield connection
    except (TimeoutError, OSError):
        # To close it would be to wait for it again.
        connection.terminate()
        raise
    finally:
        await connection.close()


@contextlib.asynccontextmanager
async def running_pool(
    dsn: str,
    application_name: str,
    *,
    most: int,
    name: str = "main",
    command_timeout: float = 30.0,
    parameters: Mapping[str, str] | None = None,
) -> AsyncGenerator[Pool, None]:
    """A pool that connects on first use, so that a service starts while its database is still away.

    ``most`` connections at the most; ``name`` is that of the pool's metrics; ``command_timeout`` in seconds bounds
    every statement; ``parameters`` are set in each session. Whoever uses a connection leaves the session as it was: it
    is not reset in between, which would take longer than most statements do. The connections end with the block,
    whatever they are doing.
    """
    pool = MeasuredPool(
        dsn,
        name,
        most=most,
        timeout=5.0,
        command_timeout=command_timeout,
        max_inactive_connection_lifetime=300.0,
        server_settings={**_server_settings(application_name), **(parameters or {})},
        reset=_leave_session_as_it_is,
    )
    await pool
    try:
        yield pool
    finally:
        pool.terminate()


async def _leave_session_as_it_is(_: Connection) -> None:
    pass


def _server_settings(application_name: str) -> dict[str, str]:
    # What is committed is on disk, and names are those of our tables, whatever role and database are set to: a role
    # may change its own settings. The JIT costs more than it saves on statements this short.
    return {
        "application_name": application_name,
        "jit": "off",
        "search_path": "public",
        "synchronous_commit": "on",
    }


async def migrate(dsn: str, directory: Path) -> None:
    """Applies the migrations of ``directory`` that the database has not seen, in order, and then all grants.

    Those are in the folder ``grants`` beside it, see ``apply_grants``. Safe to run twice, and at the same time: the
    second waits for the first and finds nothing to do. Raises ``MigrationError`` or one of ``STORE_ERRORS``.
    """
    connection = await asyncpg.connect(dsn, timeout=10.0, server_settings=_server_settings("runroom-migrate"))
    try:
        if connection.get_server_version().major < LEAST_POSTGRES:
            version = await connection.fetchval("show server_version")
            raise MigrationError(f"Runroom needs PostgreSQL {LEAST_POSTGRES} or newer, and this server is {version}")
        await connection.execute("select pg_advisory_lock($1)", MIGRATION_LOCK)
        try:
            await pogo.apply(connection, directory, schema_name="public", logger=logging.getLogger("runroom.migrate"))
        except BadMigrationError as error:
            # What PostgreSQL says in its first line names the constraint; the rows may be anybody's.
            cause = error.__cause__
            raise MigrationError(f"{error}: {cause.args[0] if cause and cause.args else repr(cause)}") from error
        await apply_grants(connection, directory.parent / "grants")
    finally:
        await connection.close()


async def apply_grants(connection: Connection, directory: Path) -> None:
    """Gives each role what ``<role>.sql`` says and takes every other right in the schema from it, and from everybody.

    Such a file is a query: an object in each row, and the rights to it. Where a role has them nothing is done. A role
    that does not exist is passed over: where there are none, everything belongs to one owner who does it all.
    """
    for role, wanted in load_queries(directory).items():
        if await connection.fetchval("select exists (select from pg_roles where rolname = $1)", role):
            async with connection.transaction():
                # Two at once would change the same rows of the catalogue, and one of them fail.
                await connection.execute("select pg_advisory_xact_lock($1)", MIGRATION_LOCK)
                changes = _CHANGES.replace("{role}", role).replace("{wanted}", wanted)
                for turn in _TURNS:
                    for (statement,) in await connection.fetch(changes, turn):
                        await connection.execute(statement)
