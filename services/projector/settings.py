"""The projector's settings, from the environment."""

from collections.abc import Mapping

from msgspec import Struct

from shared.messaging.access import NatsAccess, read_nats_access, read_nats_url
from shared.postgres import read_dsn
from shared.settings import Environment

DEFAULT_PORT = 8003


class Settings(Struct, frozen=True, kw_only=True):
    event_store_dsn: str
    projection_dsn: str
    nats_url: str
    nats_access: NatsAccess
    host: str
    port: int | None
    """None: the first free one from ``DEFAULT_PORT`` on, so that a second worker on the same machine just starts."""
    log_level: str
    log_format: str
    lease_seconds: float
    """Seconds after which a worker that says nothing loses its partitions."""


def read_settings(variables: Mapping[str, str]) -> Settings:
    """Raises ``SettingsError`` with a line per fault."""
    env = Environment(variables)
    port = env.port("PROJECTOR_PORT", DEFAULT_PORT)
    nats_url = read_nats_url(env)
    settings = Settings(
        event_store_dsn=read_dsn(env, "EVENT_STORE_DSN"),
        projection_dsn=read_dsn(env, "PROJECTION_DSN"),
        nats_url=nats_url,
        nats_access=read_nats_access(env, nats_url),
        host=env.text("HOST", "127.0.0.1"),
        port=port if variables.get("PROJECTOR_PORT", "").strip() else None,
        log_level=env.choice("LOG_LEVEL", ("debug", "info", "warning", "error"), "info"),
        log_format=env.choice("LOG_FORMAT", ("auto", "json", "console"), "auto"),
        lease_seconds=env.number("LEASE_SECONDS", 2.0, 0.5, 60.0),
    )
    env.finish()
    return settings
