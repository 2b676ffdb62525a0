"""Puts the query service together: the only module that knows all its parts."""

import asyncio
import resource
from typing import Final

import msgspec
from litestar import Litestar

from services.query.feed.hub import Hub
from services.query.feed.looker import Looker
from services.query.feed.projected import ProjectedFeed
from services.query.feed.replay import Replay
from services.query.feed.stored import StoredFeed
from services.query.feed.streams import Streams
from services.query.http.describe import openapi
from services.query.http.runs import run_routes
from services.query.http.streams import stream_route
from services.query.progress import Progress
from services.query.reads import Reads
from services.query.settings import Settings
from shared.http.auth.access import Access, open_access
from shared.http.auth.session import session_routes
from shared.http.backlog import Backlog
from shared.http.cors import Cors
from shared.http.health import health_routes
from shared.http.problems import EXCEPTION_HANDLERS
from shared.messaging.broker import Broker
from shared.postgres import running_pool
from shared.serving import ServiceError, bind, serve
from shared.tasks import running_tasks

_NAME: Final = "runroom-query"
_SEND_BUFFER: Final = 64 * 1024
"""Bytes the kernel holds for a client that reads slowly; unbounded, it would take megabytes for each."""
_MOST_DESCRIPTORS: Final = 1 << 20
_OTHER_DESCRIPTORS: Final = 256
"""For reads, connections of our own and files."""
_CUT_SECONDS: Final = 2.0
_COMMAND_SECONDS: Final = 10.0
_IN_ORDER: Final = {"enable_bitmapscan": "off", "enable_seqscan": "off", "max_parallel_workers_per_gather": "0"}
"""Whatever is read here is the beginning of what an index has in order. To look all of it up and sort it only seems
cheaper where few rows are expected, and to start parallel workers takes longer than everything else."""
_ONE_PLAN: Final = {**_IN_ORDER, "plan_cache_mode": "force_generic_plan"}
_PLANNED: Final = {**_IN_ORDER, "plan_cache_mode": "force_custom_plan"}


async def run(settings: Settings) -> None:
    """Serves until told to stop."""
    descriptors = _prepare_process()
    most_streams = min(settings.feed.stream_limit_process, max(0, descriptors - _OTHER_DESCRIPTORS))
    feed = msgspec.structs.replace(settings.feed, stream_limit_process=most_streams)
    listener = bind(settings.host, settings.port, send_buffer=_SEND_BUFFER, stall_seconds=feed.stall_seconds)
    dsn = settings.projection_dsn
    async with (
        Broker(settings.nats_url, name=_NAME, access=settings.nats_access) as broker,
        running_pool(dsn, _NAME, most=10, name="reads", command_timeout=_COMMAND_SECONDS, parameters=_ONE_PLAN) as pool,
        running_pool(
            dsn, _NAME, most=6, name="lists", command_timeout=_COMMAND_SECONDS, parameters=_PLANNED
        ) as planned,
    ):
        backlog = Backlog(settings.backlog_megabytes * 1024 * 1024)
        reads = Reads(pool, planned, backlog, limit=settings.reads_limit)
        progress = Progress(broker, limit=settings.waiters_limit)
        projected, stored = ProjectedFeed(pool), StoredFeed(broker)
        hub = Hub(broker, Looker(projected, stored), Replay(projected, stored), feed)
        streams = Streams(feed)
        access, cors = open_access(settings.auth, settings.cors_origins), Cors(settings.cors_origins)
        app = _app(reads, progress, hub, streams, broker, access, cors)
        broker.start()
        try:
            async with running_tasks(
                asyncio.create_task(hub.run(), name="tail check"),
                asyncio.create_task(streams.run(), name="stream clock"),
                asyncio.create_task(reads.watch(), name="projections check"),
                asyncio.create_task(access.run(), name="token keys"),
            ) as tasks:
                await serve(
                    app,
                    listener,
                    cors=cors,
                    backlog=backlog,
                    grace_seconds=_CUT_SECONDS,
                    drain=streams.drain,
                    tasks=tasks,
                    head_seconds=settings.request_head_seconds,
                    body_seconds=settings.request_body_seconds,
                )
        finally:
            await hub.close()


def _app(
    reads: Reads, progress: Progress, hub: Hub, streams: Streams, broker: Broker, access: Access, cors: Cors
) -> Litestar:
    async def broker_is_connected() -> str:
        # Reads and history go on without it.
        _ = broker.client
        return "connected"

    async def is_staying() -> str:
        if streams.is_draining:
            raise ServiceError("the service is stopping")
        return "serving"

    return Litestar(
        route_handlers=[
            *access.protect(
                [*run_routes(reads, progress, access.identify), stream_route(hub, streams, access.identify, cors)],
                "runs:read",
                takes_cookie=True,
            ),
            *session_routes(access),
            *health_routes(
                {"projections": reads.check, "service": is_staying, **access.checks}, {"nats": broker_is_connected}
            ),
        ],
        exception_handlers=EXCEPTION_HANDLERS,
        openapi_config=openapi(),
        logging_config=None,
        debug=False,
    )


def _prepare_process() -> int:
    """Makes the process fit for thousands of connections; how many descriptors it may open."""
    # Each stream is a descriptor, and the usual soft limit is 1024.
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _MOST_DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, _MOST_DESCRIPTORS)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        except (OSError, ValueError):  # a system may allow less than it says
            wanted = soft
    return wanted
