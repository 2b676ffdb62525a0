"""The servers and services a scenario measures: embedded, migrated, in a folder of their own.

Every process is started here and ended here.
"""

import asyncio
import contextlib
import os
from collections.abc import AsyncGenerator
from pathlib import Path

import asyncpg

from deploy.local import EmbeddedNats, EmbeddedPostgres
from deploy.local.nats import users_and
from deploy.local.ports import free_port
from deploy.local.service import ROOT, Service
from shared.messaging.broker import Broker
from shared.messaging.stream import stream_state
from shared.postgres import migrate

_ADOPT_SECONDS = 60.0
_OWNER = "runroom_migrate"


class Stack:
    """PostgreSQL and NATS, running, and whichever services a scenario starts on them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.postgres = EmbeddedPostgres(folder / "postgres")
        self.nats = EmbeddedNats(folder / "nats", users=users_and("bench"))
        self._services: list[Service] = []

    @property
    def store_dsn(self) -> str:
        return self.postgres.dsn("event_store")

    @property
    def projection_dsn(self) -> str:
        return self.postgres.dsn("projections")

    def environment(self, service: str) -> dict[str, str]:
        """What ``command``, ``query`` or ``projector`` finds in its environment: servers, and its own rights there."""
        return {
            **os.environ,
            "EVENT_STORE_DSN": self.postgres.dsn("event_store", f"runroom_{service}"),
            "PROJECTION_DSN": self.postgres.dsn("projections", f"runroom_{service}"),
            "PROJECTION_OWNER_DSN": self.postgres.dsn("projections", _OWNER),
            "NATS_URL": self.nats.url,
            "NATS_NKEY_SEED_FILE": str(self.nats.seed_file(service)),
            "LOG_LEVEL": "warning",
            "LOG_FORMAT": "json",
        }

    async def start(self) -> None:
        await asyncio.to_thread(self.postgres.start)
        await asyncio.to_thread(self.nats.start)
        await migrate(self.postgres.dsn("event_store", _OWNER), ROOT / "services" / "command" / "migrations")
        await migrate(self.postgres.dsn("projections", _OWNER), ROOT / "services" / "projector" / "migrations")

    async def service(self, name: str, **settings: str) -> Service:
        """One more ``command``, ``query`` or ``projector``, ready."""
        settings = {**self.environment(name), **settings}
        return await self.process(f"services.{name}", f"{name.upper()}_PORT", **settings)

    async def process(self, module: str, port_variable: str, **settings: str) -> Service:
        """``python -m module`` that answers ``/readyz`` on the port it is given."""
        port = free_port()
        environment = {**os.environ, port_variable: str(port), **settings}
        log_file = self.folder / f"{module}-{port}.log"
        service = Service(module, module, port, env=environment, log_file=log_file)
        self._services.append(service)
        service.start()
        await asyncio.to_thread(service.wait_until_ready)
        return service

    async def database(self, name: str) -> str:
        """A new, empty database; its DSN."""
        await asyncio.to_thread(self.postgres.execute, f'create database "{name}"')
        return self.postgres.dsn(name)

    async def end(self, service: Service) -> None:
        self._services.remove(service)
        await asyncio.to_thread(service.stop)

    async def stop(self) -> None:
        for service in self._services:
            service.ask_to_stop()
        for service in self._services:
            await asyncio.to_thread(service.stop)
        for server in (self.nats, self.postgres):
            await asyncio.to_thread(server.stop)

    async def stored(self) -> int:
        """Events in the store. Raises ``AssertionError`` unless every room is gapless."""
        connection = await asyncpg.connect(self.store_dsn)
        try:
            counted = await connection.fetchval("select coalesce(sum(last_seq), 0)::bigint from rooms")
            events = await connection.fetchval("select count(*) from events")
            odd = await connection.fetchval(
                "select count(*) from (select 1 from events group by workspace_id, room_id"
                " having max(stream_seq) <> count(*)) as odd"
            )
        finally:
            await connection.close()
        assert odd == 0, f"{odd} rooms have gaps"
        assert counted == events, f"rooms count {counted} events, there are {events}"
        return events

    async def streamed(self, events: int) -> None:
        """Waits until the stream holds so many messages. Raises ``TimeoutError``, or ``AssertionError`` for more."""
        broker = Broker(self.nats.url, name="bench")
        broker.start()
        try:
            async with asyncio.timeout(_ADOPT_SECONDS):
                await broker.wait_connected()
                while (state := await stream_state(broker)) is None or state.last_seq < events:
                    await asyncio.sleep(0.02)
        finally:
            await broker.close()
        assert state.last_seq == events, f"{events} events, {state.last_seq} messages"


@contextlib.asynccontextmanager
async def running_stack(folder: Path) -> AsyncGenerator[Stack, None]:
    folder.mkdir(parents=True, exist_ok=True)
    stack = Stack(folder)
    try:
        await stack.start()
        yield stack
    finally:
        await stack.stop()
