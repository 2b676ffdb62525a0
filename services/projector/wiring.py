"""Puts a projector together: the only module that knows all its parts."""

import asyncio
import contextlib
import socket
from collections.abc import Coroutine, Sequence
from typing import Any

import structlog
from litestar import Litestar

from services.projector.crew import Crew, Sessions
from services.projector.event_source import EventSource
from services.projector.lag import LagMeter
from services.projector.leases import LeaseKeeper, new_worker_id, session_name
from services.projector.parking import Attendant
from services.projector.projections import PROJECTIONS
from services.projector.reconcile import Reconciler
from services.projector.runner import Runner
from services.projector.session import Session
from services.projector.settings import DEFAULT_PORT, Settings
from services.projector.stream_watch import StreamWatch
from shared.http.health import health_routes
from shared.http.problems import EXCEPTION_HANDLERS
from shared.messaging.broker import Broker
from shared.postgres import Pool, running_pool
from shared.serving import ServiceError, bind, serve
from shared.tasks import running_tasks
from shared.telemetry import Logger

_PORTS = 64
_NAME = "runroom-projector"

_log: Logger = structlog.get_logger("wiring")


class ConsumersRefusedError(Exception):
    """The stream takes no consumers: it has as many as it may, or has been made into something else."""


async def run(settings: Settings) -> None:
    """Serves until told to stop."""
    listener = _bind(settings)
    worker = new_worker_id()
    async with contextlib.AsyncExitStack() as stack:

        def session(dsn: str) -> Session:
            opened = Session(dsn, session_name(worker), idle_seconds=settings.lease_seconds)
            stack.push_async_callback(opened.close)
            return opened

        broker = await stack.enter_async_context(Broker(settings.nats_url, name=_NAME, access=settings.nats_access))
        watch = StreamWatch(broker)
        crew = Crew(
            PROJECTIONS,
            Sessions(lambda: session(settings.projection_dsn), lambda: session(settings.event_store_dsn)),
            broker,
            watch,
            worker,
        )
        runners = crew.runners
        keeper = LeaseKeeper(
            session(settings.projection_dsn), broker, runners, worker, lease_seconds=settings.lease_seconds
        )
        reconciler = Reconciler(EventSource(session(settings.event_store_dsn)), crew.reconciled)
        attendant = Attendant(EventSource(session(settings.event_store_dsn)), crew.attended)
        meter = LagMeter(EventSource(session(settings.event_store_dsn)), runners, broker, watch)
        broker.start()
        tasks = await stack.enter_async_context(
            running_tasks(
                _task("stream watch", watch.run()),
                _task("projections", crew.run()),
                _task("leases", keeper.run()),
                _task("reconciler", reconciler.run()),
                _task("parking", attendant.run()),
                _task("lag", meter.run()),
            )
        )
        # For questions about health, which may come several at a time.
        projections, event_store = [
            await stack.enter_async_context(running_pool(dsn, _NAME, most=2, name=name, command_timeout=2.0))
            for name, dsn in (("projections", settings.projection_dsn), ("event_store", settings.event_store_dsn))
        ]
        app = _app(projections, event_store, broker, keeper, runners, meter)
        await serve(app, listener, drain=keeper.stop, tasks=tasks)


def _bind(settings: Settings) -> socket.socket:
    if settings.port is not None:
        return bind(settings.host, settings.port)
    for port in range(DEFAULT_PORT, DEFAULT_PORT + _PORTS):
        with contextlib.suppress(ServiceError):
            return bind(settings.host, port)
    raise ServiceError(
        f"cannot listen on {settings.host}: no port from {DEFAULT_PORT} to {DEFAULT_PORT + _PORTS - 1} is to be had"
    )


def _app(
    projections: Pool,
    event_store: Pool,
    broker: Broker,
    keeper: LeaseKeeper,
    runners: Sequence[Runner],
    meter: LagMeter,
) -> Litestar:
    async def projection_store_answers() -> str:
        await projections.fetchval("select 1 from proj_rooms limit 1")
        return "answers"

    async def event_store_answers() -> str:
        await event_store.fetchval("select 1 from rooms limit 1")
        return "answers"

    async def broker_is_connected() -> str:
        _ = broker.client
        return "connected"

    async def consumers() -> str:
        if refused := [runner.name for runner in runners if runner.is_refused]:
            raise ConsumersRefusedError(", ".join(refused))
        return ", ".join(f"{runner.name}: {sum(p.is_read for p in runner.partitions())}" for runner in runners)

    async def partitions() -> str:
        if keeper.waits_for_broker:
            return "none before NATS lets this worker in for the first time"
        return ", ".join(f"{runner.name}: {len(runner.held())}" for runner in runners)

    async def lag() -> str:
        return ", ".join(
            f"{name}: {lag.events} events, {lag.seconds:.1f} s" for name, lag in sorted(meter.worst.items())
        )

    async def parked_events() -> str:
        held = [
            f"{runner.name}: {room.key.workspace_id}/{room.key.room_id} at {room.seq} ({room.reason})"
            for runner in runners
            for room in runner.held_rooms()
        ]
        return f"{len(held)} parked" + "".join(f"; {line}" for line in held[:10])

    return Litestar(
        route_handlers=health_routes(
            {"projections": projection_store_answers, "nats": broker_is_connected, "consumers": consumers},
            {"event_store": event_store_answers, "partitions": partitions, "lag": lag, "parked": parked_events},
        ),
        exception_handlers=EXCEPTION_HANDLERS,
        openapi_config=None,
        logging_config=None,
        debug=False,
    )


def _task(name: str, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
    """Background work that leaves a trace when it ends, which it never should."""

    async def watched() -> None:
        try:
            await work
        except Exception:
            _log.exception("task_crashed", task=name)
            raise

    return asyncio.create_task(watched(), name=name)
