"""Puts the command service together: the only module that knows all its parts."""

import asyncio
from datetime import timedelta

from litestar import Litestar

from services.command.expiry import forget_expired_outcomes
from services.command.group_commit import GroupCommit, GroupCommitSettings
from services.command.http.describe import openapi
from services.command.http.reception import Reception
from services.command.http.routes import command_routes
from services.command.ids import MintedIds
from services.command.relay.lag import measure_lag
from services.command.relay.relay import Relay, RelaySettings
from services.command.settings import Settings
from services.command.vacuum import vacuum_rooms
from shared.http.auth.access import Access, open_access
from shared.http.backlog import Backlog
from shared.http.cors import Cors
from shared.http.health import health_routes
from shared.http.problems import EXCEPTION_HANDLERS
from shared.messaging.broker import Broker
from shared.messaging.stream import StreamSettings
from shared.postgres import Pool, running_pool
from shared.serving import bind, serve
from shared.tasks import running_tasks

_NAME = "runroom-command"
_DAY_SECONDS = 24 * 3600


async def run(settings: Settings) -> None:
    """Serves until told to stop."""
    listener = bind(settings.host, settings.port)
    async with (
        Broker(settings.nats_url, name=_NAME, access=settings.nats_access) as broker,
        running_pool(settings.event_store_dsn, _NAME, most=3, name="event_store") as pool,
    ):
        relay = Relay(_relay_settings(settings), broker)
        commit = GroupCommit(_commit_settings(settings), MintedIds(), relay.offer)
        access = open_access(settings.auth, settings.cors_origins)
        backlog = Backlog(settings.backlog_megabytes * 1024 * 1024)
        broker.start()
        async with running_tasks(
            asyncio.create_task(commit.run(), name="group commit"),
            asyncio.create_task(relay.run(), name="relay"),
            asyncio.create_task(forget_expired_outcomes(pool), name="expiry"),
            asyncio.create_task(vacuum_rooms(pool), name="vacuum"),
            asyncio.create_task(access.run(), name="token keys"),
            asyncio.create_task(measure_lag(pool, broker), name="relay lag"),
        ) as tasks:
            await serve(
                _app(settings, commit, access, pool, broker, backlog),
                listener,
                cors=Cors(settings.cors_origins),
                backlog=backlog,
                grace_seconds=settings.shutdown_grace,
                tasks=tasks,
                head_seconds=settings.request_head_seconds,
                body_seconds=settings.request_body_seconds,
            )


def _app(
    settings: Settings, commit: GroupCommit, access: Access, pool: Pool, broker: Broker, backlog: Backlog
) -> Litestar:
    async def event_store_answers() -> str:
        await pool.fetchval("select 1 from rooms limit 1")
        return "answers"

    reception = Reception(max_body_bytes=settings.max_body_bytes, most_bytes=settings.intake_megabytes * 1024 * 1024)

    async def broker_is_connected() -> str:
        # Commands are taken without it: the stream catches up later.
        _ = broker.client
        return "connected"

    return Litestar(
        route_handlers=[
            *access.protect(command_routes(reception, commit, access.identify, backlog), "runs:write"),
            *health_routes({"event_store": event_store_answers, **access.checks}, {"nats": broker_is_connected}),
        ],
        exception_handlers=EXCEPTION_HANDLERS,
        openapi_config=openapi(),
        logging_config=None,
        debug=False,
    )


def _commit_settings(settings: Settings) -> GroupCommitSettings:
    return GroupCommitSettings(
        dsn=settings.event_store_dsn,
        batch_commands=settings.batch_commands,
        queue_commands=settings.queue_commands,
        queue_bytes=settings.queue_megabytes * 1024 * 1024,
        store_timeout=settings.store_timeout,
        keep_outcomes=timedelta(hours=settings.idempotency_hours),
    )


def _relay_settings(settings: Settings) -> RelaySettings:
    stream = StreamSettings(
        replicas=settings.stream_replicas, max_age_seconds=settings.stream_max_age_days * _DAY_SECONDS
    )
    return RelaySettings(settings.event_store_dsn, stream)
