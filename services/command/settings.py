"""The command service's settings, from the environment."""

from collections.abc import Mapping

from msgspec import Struct

from shared.http.auth.settings import AuthSettings, read_auth_settings
from shared.http.cors import read_origins
from shared.messaging.access import NatsAccess, read_nats_access, read_nats_url
from shared.postgres import read_dsn
from shared.settings import Environment


class Settings(Struct, frozen=True, kw_only=True):
    event_store_dsn: str
    nats_url: str
    nats_access: NatsAccess
    host: str
    port: int
    auth: AuthSettings | None
    """None: callers show no token, and nobody but this machine reaches the service."""
    cors_origins: tuple[str, ...]
    log_level: str
    log_format: str
    request_head_seconds: float
    """Seconds a client has for the whole head of a request; beyond it the answer is 408 ``request_timeout``."""
    request_body_seconds: float
    """Seconds it has for the body after that, with the same answer."""
    max_body_bytes: int
    """Longest request body, in bytes."""
    intake_megabytes: int
    """Most MiB of bodies that are not whole yet; beyond it those that take longest get 503 ``overloaded``."""
    batch_commands: int
    """Most commands in one transaction."""
    queue_commands: int
    """Most commands waiting for a transaction; beyond it the answer is 503 ``overloaded``."""
    queue_megabytes: int
    """Most MiB their bodies may have together, with the same answer beyond it."""
    backlog_megabytes: int
    """Most MiB of answers that clients have yet to take; beyond it commands get 503 ``overloaded``."""
    store_timeout: float
    """Seconds a command waits for the event store before the answer is 503 ``store_unavailable``."""
    idempotency_hours: int
    """Hours the outcome of a command with an Idempotency-Key is kept."""
    stream_replicas: int
    stream_max_age_days: int
    """Days events stay on the stream; the event store keeps them for good."""
    shutdown_grace: float
    """Seconds open requests get when the service is told to stop."""


def read_settings(variables: Mapping[str, str]) -> Settings:
    """Raises ``SettingsError`` with a line per fault."""
    env = Environment(variables)
    host, nats_url = env.text("HOST", "127.0.0.1"), read_nats_url(env)
    settings = Settings(
        event_store_dsn=read_dsn(env, "EVENT_STORE_DSN"),
        nats_url=nats_url,
        nats_access=read_nats_access(env, nats_url),
        host=host,
        port=env.port("COMMAND_PORT", 8001),
        auth=read_auth_settings(env, host),
        cors_origins=read_origins(env),
        log_level=env.choice("LOG_LEVEL", ("debug", "info", "warning", "error"), "info"),
        log_format=env.choice("LOG_FORMAT", ("auto", "json", "console"), "auto"),
        request_head_seconds=env.number("REQUEST_HEAD_SECONDS", 10.0, 0.1, 3600.0),
        request_body_seconds=env.number("REQUEST_BODY_SECONDS", 30.0, 0.1, 3600.0),
        max_body_bytes=env.integer("MAX_BODY_BYTES", 1024 * 1024, 1024, 1024 * 1024),
        intake_megabytes=env.integer("INTAKE_MEGABYTES", 32, 1, 65_536),
        batch_commands=env.integer("BATCH_COMMANDS", 500, 1, 5000),
        queue_commands=env.integer("QUEUE_COMMANDS", 5000, 1, 1_000_000),
        queue_megabytes=env.integer("QUEUE_MEGABYTES", 64, 1, 65_536),
        backlog_megabytes=env.integer("BACKLOG_MEGABYTES", 64, 1, 1_000_000),
        store_timeout=env.number("STORE_TIMEOUT_SECONDS", 5.0, 0.1, 60.0),
        idempotency_hours=env.integer("IDEMPOTENCY_HOURS", 48, 24, 24 * 365),
        stream_replicas=env.integer("STREAM_REPLICAS", 1, 1, 5),
        stream_max_age_days=env.integer("STREAM_MAX_AGE_DAYS", 30, 1, 3650),
        shutdown_grace=env.number("SHUTDOWN_GRACE_SECONDS", 10.0, 0.0, 300.0),
    )
    env.finish()
    return settings
