"""What the query service needs to know, read once from the environment.

Invariant: every limit that bounds memory or time is stated here, with the bounds it may be set to.
"""

from collections.abc import Mapping

from msgspec import Struct

from shared.http.auth.settings import AuthSettings, read_auth_settings
from shared.http.cors import read_origins
from shared.messaging.access import NatsAccess, read_nats_access, read_nats_url
from shared.postgres import read_dsn
from shared.settings import Environment


class FeedSettings(Struct, frozen=True, kw_only=True):
    """Limits of the room streams. Times are in seconds."""

    heartbeat_seconds: float = 10.0
    stall_seconds: float = 30.0
    ring_events: int = 1024
    ring_bytes: int = 256 * 1024
    stream_limit_process: int = 20_000
    stream_limit_room: int = 10_000
    stream_limit_principal: int = 100
    """Of one subject in one workspace, with authentication on."""
    shutdown_grace_seconds: float = 10.0
    cursor_ahead_grace_seconds: float = 6.0
    tail_check_seconds: float = 2.0


class Settings(Struct, frozen=True, kw_only=True):
    projection_dsn: str
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
    reads_limit: int
    """Requests that may read, or wait for a connection to do so, at one time."""
    backlog_megabytes: int
    """MiB of answers and large events that clients have yet to take; beyond it the slowest are dropped, or reads are
    ``overloaded``."""
    waiters_limit: int
    """Requests with ``min_seq`` that may wait at one time; a tenth of them for one token's subject in its workspace."""
    feed: FeedSettings


def read_settings(variables: Mapping[str, str]) -> Settings:
    """The settings. Raises ``SettingsError`` naming every fault."""
    env = Environment(variables)
    feed = FeedSettings(
        # The contract promises a comment every 15 s at least, and a busy process may be a little late.
        heartbeat_seconds=env.number("HEARTBEAT_SECONDS", 10.0, 0.1, 14.0),
        stall_seconds=env.number("STALL_SECONDS", 30.0, 1.0, 3600.0),
        ring_events=env.integer("RING_EVENTS", 1024, 1, 1_000_000),
        ring_bytes=env.integer("RING_BYTES", 256 * 1024, 1024, 1 << 30),
        stream_limit_process=env.integer("STREAM_LIMIT_PROCESS", 20_000, 0, 1_000_000),
        stream_limit_room=env.integer("STREAM_LIMIT_ROOM", 10_000, 0, 1_000_000),
        stream_limit_principal=env.integer("STREAM_LIMIT_PRINCIPAL", 100, 0, 1_000_000),
        shutdown_grace_seconds=env.number("SHUTDOWN_GRACE_SECONDS", 10.0, 0.0, 300.0),
        cursor_ahead_grace_seconds=env.number("CURSOR_AHEAD_GRACE_SECONDS", 6.0, 0.0, 60.0),
        tail_check_seconds=env.number("TAIL_CHECK_SECONDS", 2.0, 0.1, 60.0),
    )
    host, nats_url = env.text("HOST", "127.0.0.1"), read_nats_url(env)
    settings = Settings(
        projection_dsn=read_dsn(env, "PROJECTION_DSN"),
        nats_url=nats_url,
        nats_access=read_nats_access(env, nats_url),
        host=host,
        port=env.port("QUERY_PORT", 8002),
        auth=read_auth_settings(env, host),
        cors_origins=read_origins(env),
        log_level=env.choice("LOG_LEVEL", ("debug", "info", "warning", "error"), "info"),
        log_format=env.choice("LOG_FORMAT", ("auto", "json", "console"), "auto"),
        request_head_seconds=env.number("REQUEST_HEAD_SECONDS", 10.0, 0.1, 3600.0),
        request_body_seconds=env.number("REQUEST_BODY_SECONDS", 30.0, 0.1, 3600.0),
        reads_limit=env.integer("READS_LIMIT", 1000, 1, 1_000_000),
        backlog_megabytes=env.integer("BACKLOG_MEGABYTES", 64, 1, 1_000_000),
        waiters_limit=env.integer("WAITERS_LIMIT", 1000, 0, 1_000_000),
        feed=feed,
    )
    env.finish()
    return settings
