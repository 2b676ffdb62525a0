"""Fixtures of the command service's tests: an event store and a NATS server of a test's own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from deploy.local import EmbeddedNats
from tests.support.servers import MigratedDatabases, running_nats


@pytest.fixture
def dsn(migrated_databases: MigratedDatabases) -> str:
    """A migrated event store, with nothing in it."""
    return migrated_databases.copy("event_store")


@pytest.fixture
def nats() -> Iterator[EmbeddedNats]:
    """No stream yet, and free to be killed and started again."""
    with running_nats() as server:
        yield server
