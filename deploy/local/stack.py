"""Runroom on one machine: embedded servers, both migrations, the services, in an order that always works.

Invariant: `start()` either ends with everything ready or raises with nothing left running, and only one stack at a
time uses a data directory. Services stop before the servers they talk to, and each has no more rights there than in
any other deployment: roles of PostgreSQL and users of NATS are those of `deploy/postgres/` and `deploy/nats/`.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import IO, TypeVar

from deploy.local.nats import USERS_FILE, EmbeddedNats
from deploy.local.ports import LOOPBACK, free_port, is_free
from deploy.local.postgres import EmbeddedPostgres
from deploy.local.process import LocalError, run
from deploy.local.service import ROOT, Echo, Service
from deploy.local.settings import LocalSettings
from deploy.secret_files import write_secret

STACK_FILE = "stack.env"
_SERVERS = ("EVENT_STORE_DSN", "PROJECTION_DSN", "NATS_URL")
_Part = TypeVar("_Part")


class LocalStack:
    """Everything of one deployment. `start` it from a thread that outlives it. All methods block."""

    def __init__(
        self, settings: LocalSettings, echo: Echo | None = None, variables: Mapping[str, str] | None = None
    ) -> None:
        """`echo` gets every line that a service prints, from a thread; `variables` are more settings of services."""
        self.settings = settings
        self.data_dir = settings.data_dir.absolute()
        self.postgres: EmbeddedPostgres | None = None
        self.nats: EmbeddedNats | None = None
        self.command: Service | None = None
        self.query: Service | None = None
        self.projectors: list[Service] = []
        self._echo = echo
        self._variables = dict(variables or {})
        self._lock: IO[str] | None = None
        self._ports: tuple[int, int, list[int]] | None = None

    @property
    def command_url(self) -> str:
        return _started(self.command).url

    @property
    def query_url(self) -> str:
        return _started(self.query).url

    @property
    def services(self) -> list[Service]:
        return [service for service in (self.command, self.query, *self.projectors) if service is not None]

    def addresses(self, service: str) -> dict[str, str]:
        """What `command`, `projector`, `query` or `migrate` needs to know of the servers, with its own credentials.

        Where a server was given by hand, it is what was given.
        """
        role, settings = f"runroom_{service}", self.settings
        addresses: dict[str, str] = {}
        if service != "query":
            addresses["EVENT_STORE_DSN"] = settings.event_store_dsn or self._dsn("event_store", role)
        if service != "command":
            addresses["PROJECTION_DSN"] = settings.projection_dsn or self._dsn("projections", role)
        if service != "migrate":
            addresses["NATS_URL"] = settings.nats_url or _started(self.nats).url
            if self.nats is not None:
                addresses["NATS_NKEY_SEED_FILE"] = str(self.nats.seed_file(service))
            else:
                given = (name for name in os.environ if name.startswith("NATS_") and name not in addresses)
                addresses |= {name: os.environ[name] for name in given}
        return addresses

    def start(self) -> None:
        """Start everything and return when every service is ready. Raises `LocalError` with one sentence.

        Started again after a stop, everything is where it was.
        """
        try:
            self._take_directory()
            self._ports = self._ports or self._choose_ports()
            _check_ports(*self._ports)
            self._start_servers()
            self._migrate()
            self._start_services(*self._ports)
            self._write_stack_file()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Stop the services, then NATS, then PostgreSQL. Nothing is left running on return; the data stays."""
        for service in self.services:
            service.ask_to_stop()
        for service in self.services:
            service.stop()
        if self.nats is not None:
            self.nats.stop()
        if self.postgres is not None:
            self.postgres.stop()
        if self._lock is not None:
            (self.data_dir / STACK_FILE).unlink(missing_ok=True)
            self._lock.close()
            self._lock = None

    def death(self) -> str | None:
        """One sentence when a service or a server has ended by itself, else None."""
        for service in self.services:
            if (sentence := service.death()) is not None:
                return sentence
        for server in (self.postgres, self.nats):
            if server is not None and server.pid is None:
                return f"{server.name} ended by itself; see {server.log_file}."
        return None

    def add_projector(self) -> Service:
        """Start one more projector on a free port and return when it is ready."""
        projector = self._service(f"projector-{len(self.projectors)}", "services.projector", free_port())
        self.projectors.append(projector)
        projector.start()
        projector.wait_until_ready()
        return projector

    def _take_directory(self) -> None:
        try:
            self.data_dir.mkdir(parents=True, exist_ok=True)
            (self.data_dir / "logs").mkdir(exist_ok=True)
            lock = (self.data_dir / "lock").open("w")
        except OSError as error:
            raise LocalError(f"Cannot write to DATA_DIR {self.data_dir}: {error.strerror}.") from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            lock.close()
            raise LocalError(
                f"A stack is already running on {self.data_dir}; stop it, or set DATA_DIR to another folder."
            ) from error
        self._lock = lock

    def _choose_ports(self) -> tuple[int, int, list[int]]:
        settings = self.settings
        first = settings.projector_port
        projectors = [first + n if first else free_port() for n in range(settings.projector_workers)]
        return settings.command_port or free_port(), settings.query_port or free_port(), projectors

    def _start_servers(self) -> None:
        memory = self.data_dir / "ports.json"
        remembered = _read_ports(memory)
        settings = self.settings
        if settings.event_store_dsn is None or settings.projection_dsn is None:
            self.postgres = EmbeddedPostgres(self.data_dir / "postgres", _if_free(remembered.get("postgres")))
            self.postgres.start()
            remembered["postgres"] = self.postgres.port
        if settings.nats_url is None:
            self.nats = EmbeddedNats(
                self.data_dir / "nats", _if_free(remembered.get("nats")), users=USERS_FILE.read_text()
            )
            self.nats.start()
            remembered["nats"] = self.nats.port
        memory.write_text(json.dumps(remembered))

    def _migrate(self) -> None:
        for service in ("command", "projector"):
            argv = (sys.executable, "-m", f"services.{service}", "migrate")
            code, printed = run(argv, env=self._environment("migrate"), cwd=ROOT)
            if code != 0:
                last = printed.splitlines()[-1] if printed else f"exit code {code}"
                raise LocalError(f"The {service} service's database could not be migrated: {last}")

    def _start_services(self, command_port: int, query_port: int, projector_ports: list[int]) -> None:
        self.command = self._service("command", "services.command", command_port)
        self.query = self._service("query", "services.query", query_port)
        self.projectors = [
            self._service(f"projector-{n}" if n else "projector", "services.projector", port)
            for n, port in enumerate(projector_ports)
        ]
        for service in self.services:
            service.log_file.unlink(missing_ok=True)
            service.start()
        for service in self.services:
            service.wait_until_ready()

    def _service(self, name: str, module: str, port: int) -> Service:
        variable = {
            "services.command": "COMMAND_PORT",
            "services.query": "QUERY_PORT",
            "services.projector": "PROJECTOR_PORT",
        }[module]
        return Service(
            name,
            module,
            port,
            env=self._environment(module.removeprefix("services.")) | {variable: str(port)},
            log_file=self.data_dir / "logs" / f"{name}.log",
            echo=self._echo,
        )

    def _environment(self, service: str) -> dict[str, str]:
        """What a service or its migrations run with: the caller's environment, and where everything it needs is."""
        caller = {name: value for name, value in os.environ.items() if name not in _SERVERS}
        if self.settings.nats_url is None:
            caller = {name: value for name, value in caller.items() if not name.startswith("NATS_")}
        if service not in ("command", "query"):
            caller = {name: value for name, value in caller.items() if not name.startswith("AUTH_")}
        own = {**self.addresses(service), "HOST": LOOPBACK, "PYTHONUNBUFFERED": "1"}
        return {"LOG_FORMAT": "console", **caller, **self._variables, **own}

    def _dsn(self, database: str, role: str) -> str:
        return _started(self.postgres).dsn(database, role)

    def _write_stack_file(self) -> None:
        """Where everything is, for the shell and for `make projector`. It holds passwords: its owner's alone."""
        content = self.addresses("projector")
        content |= {
            "EVENT_STORE_OWNER_DSN": self.addresses("migrate")["EVENT_STORE_DSN"],
            "PROJECTION_OWNER_DSN": self.addresses("migrate")["PROJECTION_DSN"],
            "COMMAND_URL": self.command_url,
            "QUERY_URL": self.query_url,
        }
        lines = "".join(f"{name}={shlex.quote(value)}\n" for name, value in content.items())
        write_secret(self.data_dir / STACK_FILE, lines)


def read_stack_file(data_dir: Path) -> dict[str, str]:
    """The variables of the stack that runs on `data_dir`. Raises `LocalError` when none does."""
    missing = LocalError(f"No stack is running on {data_dir}; start one with `make up`.")
    try:
        with (data_dir / "lock").open("r+") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        pass  # held by the running stack
    except OSError:
        raise missing from None
    else:
        raise missing
    try:
        lines = (data_dir / STACK_FILE).read_text().splitlines()
    except FileNotFoundError:
        raise LocalError(f"The stack on {data_dir} is still starting; try again in a moment.") from None
    except OSError as error:
        raise LocalError(f"Cannot read {data_dir / STACK_FILE}: {error.strerror}.") from error
    pairs = (line.split("=", 1) for line in lines)
    return {name: shlex.split(value)[0] for name, value in pairs}


def _check_ports(command: int, query: int, projectors: list[int]) -> None:
    """Before anything starts, so that a taken port costs no time."""
    wanted = [("COMMAND_PORT", command), ("QUERY_PORT", query)]
    wanted += [("PROJECTOR_PORT" + (f" + {n}" if n else ""), port) for n, port in enumerate(projectors)]
    names: dict[int, str] = {}
    for name, port in wanted:
        if port > 65535:
            raise LocalError(f"Port {port} ({name}) does not exist; choose a lower PROJECTOR_PORT.")
        if port in names:
            raise LocalError(f"{names[port]} and {name} are both {port}; choose another for one of them.")
        if not is_free(port):
            raise LocalError(
                f"Port {port} on {LOOPBACK} is taken or not allowed;"
                f" stop what uses it, or set {name.split()[0]} to another."
            )
        names[port] = name


def _started(part: _Part | None) -> _Part:
    if part is None:
        raise LocalError("The stack is not started.")
    return part


def _read_ports(memory: Path) -> dict[str, int]:
    with contextlib.suppress(OSError, ValueError):
        remembered: Mapping[str, object] = json.loads(memory.read_text())
        return {name: port for name, port in remembered.items() if isinstance(port, int)}
    return {}


def _if_free(port: int | None) -> int:
    """`port` when it can be used again, else 0: any."""
    return port if port and is_free(port) else 0
