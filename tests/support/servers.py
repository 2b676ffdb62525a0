"""Real PostgreSQL and NATS servers that live as long as a fixture, in folders that go with them.

Invariant: two tests that run at the same time never share a server, and two modules never share a database, unless
they ask for that.
"""

from __future__ import annotations

import contextlib
import itertools
import tempfile
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from deploy.local import EmbeddedNats, EmbeddedPostgres

REPOSITORY = Path(__file__).parents[2]
EVENT_STORE_MIGRATIONS = REPOSITORY / "services" / "command" / "migrations"
PROJECTION_MIGRATIONS = REPOSITORY / "services" / "projector" / "migrations"


@contextlib.contextmanager
def running_postgres() -> Iterator[EmbeddedPostgres]:
    """A PostgreSQL server with the databases `event_store` and `projections`, both empty."""
    with tempfile.TemporaryDirectory(prefix="runroom-postgres-") as folder:
        server = EmbeddedPostgres(Path(folder))
        server.start()
        try:
            yield server
        finally:
            server.stop()


@contextlib.contextmanager
def running_nats() -> Iterator[EmbeddedNats]:
    """A NATS server with JetStream and no stream."""
    with tempfile.TemporaryDirectory(prefix="runroom-nats-") as folder:
        server = EmbeddedNats(Path(folder))
        server.start()
        try:
            yield server
        finally:
            server.stop()


_CONNECTS = {
    "event_store": "runroom_command, runroom_projector",
    "projections": "runroom_projector, runroom_query",
}


def as_role(dsn: str, server: EmbeddedPostgres, role: str) -> str:
    """The same database, reached as another role."""
    return server.dsn(urlsplit(dsn).path[1:], role)


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
