"""What the local stack runs where, from the environment.

Invariant: a server whose URL was given by hand is never started here.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from msgspec import Struct

from shared.messaging.access import read_nats_url
from shared.postgres import read_dsn
from shared.settings import Environment

COMMAND_PORT = 8001
QUERY_PORT = 8002
PROJECTOR_PORT = 8003


class LocalSettings(Struct, frozen=True, kw_only=True):
    """Ports on loopback, 0 meaning any free one; projector i listens on `projector_port` + i."""

    data_dir: Path
    command_port: int = 0
    query_port: int = 0
    projector_port: int = 0
    projector_workers: int = 1
    event_store_dsn: str | None = None
    """Given by hand; None means the embedded PostgreSQL. The same goes for the next two."""
    projection_dsn: str | None = None
    nats_url: str | None = None


def read_settings(variables: Mapping[str, str]) -> LocalSettings:
    """Raises `SettingsError` with a line per fault."""
    env = Environment(variables)
    settings = LocalSettings(
        data_dir=Path(env.text("DATA_DIR", ".data")).expanduser().absolute(),
        command_port=env.integer("COMMAND_PORT", COMMAND_PORT, 1, 65535),
        query_port=env.integer("QUERY_PORT", QUERY_PORT, 1, 65535),
        projector_port=env.integer("PROJECTOR_PORT", PROJECTOR_PORT, 1, 65535),
        projector_workers=env.integer("PROJECTOR_WORKERS", 1, 0, 32),
        event_store_dsn=read_dsn(env, "EVENT_STORE_DSN", "") or None,
        projection_dsn=read_dsn(env, "PROJECTION_DSN", "") or None,
        nats_url=read_nats_url(env, "") or None,
    )
    env.finish()
    return settings
