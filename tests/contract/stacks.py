"""Where a deployment to test comes from: five ways to two base URLs.

Everything a way starts, it stops, however the session ends. Only this module knows more of a deployment than its URLs,
and it imports what a way needs when that way is chosen: the suite against `url` needs nothing of this repository.
"""

from __future__ import annotations

import os
import secrets
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from deploy.local.settings import LocalSettings

ROOT = Path(__file__).resolve().parents[2]
START_TIMEOUT = 60
_BY_BYTES = "--locale-provider=builtin --builtin-locale=C.UTF-8 --locale=C"


@dataclass(frozen=True)
class Deployment:
    """The base URLs of the command and the query service."""

    command_url: str
    query_url: str


@contextmanager
def embedded(data_dir: Path) -> Iterator[Deployment]:
    """PostgreSQL, NATS and the services on this machine, without containers."""
    from deploy.local.settings import LocalSettings

    with local_services(LocalSettings(data_dir=data_dir)) as deployment:
        yield deployment


@contextmanager
def guarded(data_dir: Path) -> Iterator[Deployment]:
    """The same with authentication on: the suite's environment is the services', and each client mints its token."""
    before = os.environ.get("AUTH_JWT_SECRET")
    os.environ["AUTH_JWT_SECRET"] = before or secrets.token_urlsafe(32)
    try:
        with embedded(data_dir) as deployment:
            yield deployment
    finally:
        if before is None:
            del os.environ["AUTH_JWT_SECRET"]


@contextmanager
def containers(data_dir: Path) -> Iterator[Deployment]:
    """PostgreSQL and NATS in containers, the services as processes beside them.

    One owner does everything here, as where no roles and users have been made.
    """
    os.environ.setdefault("TESTCONTAINERS_RYUK_DISABLED", "true")
    from testcontainers.core.container import DockerContainer
    from testcontainers.core.wait_strategies import ExecWaitStrategy, LogMessageWaitStrategy

    from deploy.local.settings import LocalSettings

    password = secrets.token_hex(16)
    # Over TCP: while the image sets the database up, the server listens on its socket alone.
    ready = ExecWaitStrategy(["pg_isready", "-h", "127.0.0.1", "-U", "runroom", "-d", "event_store"])
    postgres = DockerContainer("postgres:18").with_exposed_ports(5432)
    postgres.with_env("POSTGRES_USER", "runroom").with_env("POSTGRES_PASSWORD", password)
    postgres.with_env("POSTGRES_DB", "event_store").with_env("POSTGRES_INITDB_ARGS", _BY_BYTES)
    postgres.waiting_for(ready.with_startup_timeout(START_TIMEOUT))
    nats = DockerContainer("nats:2.15-alpine").with_exposed_ports(4222)
    nats.with_volume_mapping(ROOT / "deploy/nats/server.conf", "/etc/nats/server.conf")
    nats.with_command(["--config", "/etc/nats/server.conf"])
    nats.waiting_for(LogMessageWaitStrategy("Server is ready").with_startup_timeout(START_TIMEOUT))

    with ExitStack() as stack:
        stack.enter_context(postgres)
        stack.enter_context(nats)
        made = postgres.exec(["createdb", "--username=runroom", "projections"])
        assert made.exit_code == 0, made.output
        at = f"postgresql://runroom:{password}@127.0.0.1:{postgres.get_exposed_port(5432)}"
        settings = LocalSettings(
            data_dir=data_dir,
            event_store_dsn=f"{at}/event_store",
            projection_dsn=f"{at}/projections",
            nats_url=f"nats://127.0.0.1:{nats.get_exposed_port(4222)}",
        )
        yield stack.enter_context(local_services(settings))


class ComposeProject:
    """`docker-compose.yml` as it stands, under a name and on ports of its own."""

    def __init__(self) -> None:
        self.name = f"runroom-contract-{secrets.token_hex(4)}"
        command_port, query_port = free_ports(2)
        self._environment = {
            **os.environ,
            "COMPOSE_PROJECT_NAME": self.name,
            "COMPOSE_FILE": str(ROOT / "docker-compose.yml"),
            "COMMAND_PORT": str(command_port),
            "QUERY_PORT": str(query_port),
        }
        self.deployment = Deployment(f"http://127.0.0.1:{command_port}", f"http://127.0.0.1:{query_port}")

    def run(self, *arguments: str) -> str:
        """One `docker compose` command, to its end; what it writes."""
        return self._do(["docker", "compose", *arguments], ROOT, self._environment)

    def shell(self, script: str, folder: Path = ROOT) -> str:
        """Commands as somebody types them in this folder; what they write."""
        return self._do(["sh", "-c", script], folder, self._environment)

    def _do(self, command: list[str], folder: Path, environment: dict[str, str]) -> str:
        done = subprocess.run(
            command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{' '.join(command)}:\n{done.stdout}\n{done.stderr}"
        return done.stdout


@contextmanager
def compose_project(*up: str) -> Iterator[ComposeProject]:
    """The project, up and ready; gone with its volumes at the end. `up` are more arguments of `docker compose up`."""
    project = ComposeProject()
    try:
        project.run("up", "--build", "--wait", *up)
        yield project
    finally:
        project.run("down", "--volumes", "--remove-orphans")


@contextmanager
def compose(data_dir: Path) -> Iterator[Deployment]:
    """What `docker compose up --build --wait` gives."""
    with compose_project() as project:
        yield project.deployment


@contextmanager
def url(data_dir: Path) -> Iterator[Deployment]:
    """Whatever runs at COMMAND_URL and QUERY_URL."""
    missing = [name for name in ("COMMAND_URL", "QUERY_URL") if not os.environ.get(name)]
    assert not missing, f"--stack=url needs {' and '.join(missing)}"
    yield Deployment(os.environ["COMMAND_URL"], os.environ["QUERY_URL"])


STACKS: dict[str, Callable[[Path], AbstractContextManager[Deployment]]] = {
    "embedded": embedded,
    "guarded": guarded,
    "containers": containers,
    "compose": compose,
    "url": url,
}


@contextmanager
def local_services(settings: LocalSettings) -> Iterator[Deployment]:
    """Migrate and start the services on free ports, and whichever server no address is given for."""
    from deploy.local.stack import LocalStack

    stack = LocalStack(settings)
    stack.start()
    try:
        yield Deployment(stack.command_url, stack.query_url)
    finally:
        stack.stop()


def free_ports(count: int) -> list[int]:
    """Return that many ports nobody listens on now."""
    with ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for listener in sockets:
            listener.bind(("127.0.0.1", 0))
        return [listener.getsockname()[1] for listener in sockets]
