"""A whole deployment as real processes: PostgreSQL, NATS (one broker or a cluster), two command services, two query
services, three projectors.

Every process is started here and ended here, by pid.
"""

import asyncio
import contextlib
import os
import signal
import sys
from asyncio.subprocess import PIPE, STDOUT
from collections.abc import AsyncGenerator, Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from deploy.local import EmbeddedNats, EmbeddedPostgres
from deploy.local.ports import free_port
from deploy.local.service import Service
from shared.postgres import migrate
from tests.fault.brokers import Brokers
from tests.fault.clock import stepping_clock
from tests.fault.disks import small_disk
from tests.support.proxy import Proxy, running_proxy, through
from tests.support.servers import EVENT_STORE_MIGRATIONS, PROJECTION_MIGRATIONS, nats_seeds

COMMANDS = 2
QUERIES = 2
PROJECTORS = 3

Server = EmbeddedPostgres | EmbeddedNats | Service


class Layout(NamedTuple):
    """What a deployment stands on. ``small_disks``: those of PostgreSQL and NATS can be filled."""

    brokers: int = 1
    small_disks: bool = False


class Plant:
    """The processes of one deployment. ``kill``, ``pause`` and ``resume`` work on any of them."""

    def __init__(self, folder: Path, layout: Layout) -> None:
        self.folder = folder
        self._stack = contextlib.AsyncExitStack()
        self._layout = layout
        postgres, nats = folder / "postgres", folder / "nats"
        if layout.small_disks:
            for disk, megabytes in ((postgres, 400), (nats, 100)):
                self._stack.enter_context(small_disk(disk, megabytes))
        self.postgres = EmbeddedPostgres(postgres / "data")
        self.brokers = Brokers(nats, layout.brokers)
        self.clock_file = folder / "clock"
        self.proxies: list[Proxy] = []
        """What stands between the services and PostgreSQL, and between them and each broker."""
        self.commands: list[Service] = []
        self.queries: list[Service] = []
        self.projectors: list[Service] = []

    @property
    def services(self) -> list[Service]:
        return [*self.commands, *self.queries, *self.projectors]

    @property
    def command_urls(self) -> list[str]:
        return [service.url for service in self.commands]

    @property
    def query_urls(self) -> list[str]:
        return [service.url for service in self.queries]

    async def start(self) -> None:
        await asyncio.to_thread(self.postgres.start)
        await self.brokers.start()
        self.proxies = [
            await self._stack.enter_async_context(running_proxy(server.port))
            for server in (self.postgres, *self.brokers.nodes)
        ]
        await migrate(self.postgres.dsn("event_store", "runroom_migrate"), EVENT_STORE_MIGRATIONS)
        await migrate(self.postgres.dsn("projections", "runroom_migrate"), PROJECTION_MIGRATIONS)
        self.commands = self._make("command", "COMMAND_PORT", COMMANDS)
        self.queries = self._make("query", "QUERY_PORT", QUERIES)
        self.projectors = self._make("projector", "PROJECTOR_PORT", PROJECTORS)
        for service in self.services:
            service.start()
        for service in self.services:
            await asyncio.to_thread(service.wait_until_ready)

    async def run(self, module: str, *arguments: str, kill_after: float | None = None) -> tuple[int, str]:
        """A command of the deployment's own, to its end: exit status and what it printed. It goes past the proxies.

        After ``kill_after`` seconds it is killed, if it has not ended by then.
        """
        environment = {
            **os.environ,
            **self._addresses("projector", self.postgres.dsn, self.brokers.url),
            "PROJECTION_OWNER_DSN": self.postgres.dsn("projections", "runroom_migrate"),
        }
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", module, *arguments, env=environment, stdout=PIPE, stderr=STDOUT
        )
        ended = asyncio.create_task(process.communicate())
        await asyncio.wait({ended}, timeout=kill_after)
        if not ended.done():
            process.kill()
        printed, _ = await ended
        return process.returncode or 0, printed.decode()

    async def stop(self) -> None:
        for service in self.services:
            resume(service)
            service.ask_to_stop()
        for service in self.services:
            await asyncio.to_thread(service.stop)
        for server in (*self.brokers.nodes, self.postgres):
            resume(server)
            await asyncio.to_thread(server.stop)
        await self._stack.aclose()

    def _make(self, name: str, port_variable: str, number: int) -> list[Service]:
        return [self._service(name, port_variable, index) for index in range(number)]

    def _addresses(self, service: str, dsn: Callable[[str, str], str], nats_url: str) -> dict[str, str]:
        """Where a service finds servers, with its own rights there."""
        return {
            "EVENT_STORE_DSN": dsn("event_store", f"runroom_{service}"),
            "PROJECTION_DSN": dsn("projections", f"runroom_{service}"),
            "NATS_URL": nats_url,
            "NATS_NKEY_SEED_FILE": str(nats_seeds() / f"{service}.seed"),
        }

    def _service(self, name: str, port_variable: str, index: int) -> Service:
        port = free_port()
        postgres, *brokers = self.proxies
        nats_url = ",".join(through(*pair) for pair in zip(brokers, self.brokers.url.split(","), strict=True))

        def dsn(database: str, role: str) -> str:
            return through(postgres, self.postgres.dsn(database, role))

        environment = {
            **stepping_clock(self.clock_file, dict(os.environ)),
            **self._addresses(name, dsn, nats_url),
            "STREAM_REPLICAS": str(self._layout.brokers),
            port_variable: str(port),
            "LOG_FORMAT": "json",
        }
        log_file = self.folder / f"{name}-{index}.log"
        return Service(f"{name}-{index}", f"services.{name}", port, env=environment, log_file=log_file)


async def kill(servers: Sequence[Server]) -> None:
    """SIGKILL to all of them."""
    for server in servers:
        await asyncio.to_thread(server.kill)


async def start(servers: Sequence[Server]) -> None:
    for server in servers:
        await asyncio.to_thread(server.start)


def pause(server: Server) -> None:
    """SIGSTOP, to a server's own children too."""
    for pid in _family(server):
        os.kill(pid, signal.SIGSTOP)


def resume(server: Server) -> None:
    for pid in _family(server):
        os.kill(pid, signal.SIGCONT)


def _family(server: Server) -> list[int]:
    if server.pid is None:
        return []
    family = [server.pid]
    for pid in family:
        with contextlib.suppress(OSError):
            children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
            family += [int(child) for child in children]
    return family


@contextlib.asynccontextmanager
async def running_plant(folder: Path, layout: Layout) -> AsyncGenerator[Plant, None]:
    """Raises ``NoSmallDiskError`` where the layout asks for disks that cannot be had."""
    plant = Plant(folder, layout)
    try:
        await plant.start()
        yield plant
    finally:
        await plant.stop()
