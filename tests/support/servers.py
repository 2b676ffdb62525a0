"""Real PostgreSQL and NATS servers that live as long as a fixture, in folders that go with them.

Invariant: two tests that run at the same time never share a server, and two modules never share a database, unless
they ask for that.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import itertools
import os
import signal
import tempfile
from collections.abc import AsyncGenerator, Iterator
from pathlib import Path
from urllib.parse import urlsplit

from deploy.local import EmbeddedNats, EmbeddedPostgres
from deploy.local.nats import users_and
from deploy.local.postgres import USER, role_password
from shared.messaging.access import NatsAccess
from shared.messaging.broker import Broker

CUTS_AT_8_MB = "max_pending: 8MB\n"
"""A NATS server that ends a long answer, and a connection that does not keep up, at an eighth of the usual."""

REPOSITORY = Path(__file__).parents[2]
EVENT_STORE_MIGRATIONS = REPOSITORY / "services" / "command" / "migrations"
PROJECTION_MIGRATIONS = REPOSITORY / "services" / "projector" / "migrations"


@functools.cache
def _seeds() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="runroom-seeds-")


def nats_seeds() -> Path:
    """Where the keys of the services are, for all NATS servers of this process."""
    return Path(_seeds().name)


def nats_users() -> str:
    """The users of every deployment, and one for tests, who may do everything: whoever comes without a key."""
    return users_and("tester")


def reload(nats: EmbeddedNats, configuration: str) -> None:
    """The server that runs takes up another configuration."""
    assert nats.pid is not None
    (nats.data_dir / "nats.conf").write_text(configuration)
    os.kill(nats.pid, signal.SIGHUP)


@contextlib.contextmanager
def running_postgres(**options: int) -> Iterator[EmbeddedPostgres]:
    """A PostgreSQL server with the databases `event_store` and `projections`, both empty."""
    with tempfile.TemporaryDirectory(prefix="runroom-postgres-") as folder:
        server = EmbeddedPostgres(Path(folder), **options)
        server.start()
        try:
            yield server
        finally:
            server.stop()


@contextlib.contextmanager
def running_nats(more: str = "") -> Iterator[EmbeddedNats]:
    """A NATS server with JetStream and no stream. Services are let in by their keys; tests need none.

    `more` goes into its configuration as it is.
    """
    with tempfile.TemporaryDirectory(prefix="runroom-nats-") as folder:
        server = EmbeddedNats(Path(folder), users=nats_users(), seeds=nats_seeds(), more=more)
        server.start()
        try:
            yield server
        finally:
            server.stop()


@contextlib.asynccontextmanager
async def broker_as(nats: EmbeddedNats, user: str) -> AsyncGenerator[Broker, None]:
    """A connection with the key of a service, and with no more than its rights."""
    access = NatsAccess(nkey_seed_file=nats.seed_file(user))
    async with Broker(nats.url, name=f"runroom-{user}", access=access) as broker:
        broker.start()
        async with asyncio.timeout(20):
            await broker.wait_connected()
        yield broker


_CONNECTS = {
    "event_store": "runroom_command, runroom_projector",
    "projections": "runroom_projector, runroom_query",
}


def as_role(dsn: str, role: str) -> str:
    """The database of an embedded server, reached as another role than its superuser."""
    url = urlsplit(dsn)
    if url.username != USER or url.password is None:
        return dsn
    return url._replace(netloc=f"{role}:{role_password(url.password, role)}@{url.hostname}:{url.port}").geturl()


def as_service(service: str, *, nats: str = "", **databases: str) -> dict[str, str]:
    """The environment in which `command`, `projector` or `query` finds servers, with no more than its own rights.

    `databases` are the superuser's DSNs by the names of their variables, `nats` the URL of a server for tests.
    """
    dsns = {variable: as_role(dsn, f"runroom_{service}") for variable, dsn in databases.items()}
    return {**dsns, "NATS_URL": nats, "NATS_NKEY_SEED_FILE": str(nats_seeds() / f"{service}.seed")}


class MigratedDatabases:
    """Copies of the two migrated databases, each made in some ten milliseconds from the one migrated original."""

    def __init__(self, server: EmbeddedPostgres) -> None:
        self._server = server
        self._numbers = itertools.count(1)

    def copy(self, original: str) -> str:
        """The DSN of a new copy of `event_store` or `projections`. Nobody may be connected to the original."""
        name = f"{original}_{next(self._numbers)}"
        self._server.execute(
            f"create database {name} template {original} owner runroom_migrate;"
            f"revoke all on database {name} from public;"
            f"grant connect on database {name} to {_CONNECTS[original]}"
        )
        return self._server.dsn(name)
