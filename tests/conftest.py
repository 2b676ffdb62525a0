"""Fixtures for every test: one PostgreSQL and one NATS per test process, fresh databases per module.

A server is started when the first test asks for it, so unit tests start none. The stream has one name per NATS
server: a module that publishes to it takes `fresh_nats`, not `nats_server`.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from deploy.local import EmbeddedNats, EmbeddedPostgres
from shared.postgres import migrate
from tests.support import forks
from tests.support.servers import (
    EVENT_STORE_MIGRATIONS,
    PROJECTION_MIGRATIONS,
    MigratedDatabases,
    running_nats,
    running_postgres,
)

forks.install()


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[EmbeddedPostgres]:
    """A PostgreSQL server of this test process. Do not kill it; take `fresh_postgres` for that."""
    with running_postgres() as server:
        yield server


@pytest.fixture(scope="session")
def nats_server() -> Iterator[EmbeddedNats]:
    """A NATS server of this test process, for tests that do not use the stream."""
    with running_nats() as server:
        yield server


@pytest.fixture(scope="session")
def nats_url(nats_server: EmbeddedNats) -> str:
    return nats_server.url


@pytest.fixture(scope="session")
async def migrated_databases(postgres_server: EmbeddedPostgres) -> MigratedDatabases:
    await migrate(postgres_server.dsn("event_store", "runroom_migrate"), EVENT_STORE_MIGRATIONS)
    await migrate(postgres_server.dsn("projections", "runroom_migrate"), PROJECTION_MIGRATIONS)
    return MigratedDatabases(postgres_server)


@pytest.fixture(scope="module")
def event_store_dsn(migrated_databases: MigratedDatabases) -> str:
    """A migrated event store of this module, with nothing in it."""
    return migrated_databases.copy("event_store")


@pytest.fixture(scope="module")
def projection_dsn(migrated_databases: MigratedDatabases) -> str:
    """A migrated projection database of this module, with nothing in it."""
    return migrated_databases.copy("projections")


@pytest.fixture(scope="module")
def fresh_nats() -> Iterator[EmbeddedNats]:
    """A NATS server of this module: no stream yet, and free to be killed and started again."""
    with running_nats() as server:
        yield server


@pytest.fixture(scope="module")
def fresh_postgres() -> Iterator[EmbeddedPostgres]:
    """A PostgreSQL server of this module: both databases empty, and free to be killed and started again."""
    with running_postgres() as server:
        yield server
