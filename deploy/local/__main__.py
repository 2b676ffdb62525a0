"""`python -m deploy.local [up|projector] [--with-parent]`: the local stack in a terminal.

`up` (the default) runs until Ctrl-C or SIGTERM, stops everything in order and exits 0. Whatever keeps it from running
is one sentence on standard error and exit code 1, with nothing left running. `projector` becomes one more projector of
the running stack. `--with-parent` ends it, in the same orderly way, when the process that started it is gone.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import signal
import sys
import threading
import time
from collections.abc import Mapping
from typing import NoReturn

from deploy.local.ports import LOOPBACK, is_free
from deploy.local.process import LocalError
from deploy.local.service import ROOT, without_colour
from deploy.local.settings import read_settings
from deploy.local.stack import STACK_FILE, LocalStack, read_stack_file
from shared.settings import SettingsError

_PR_SET_PDEATHSIG = 1
_WATCH_INTERVAL_S = 0.2
_KEYS = ("AUTH_JWT_SECRET", "AUTH_JWT_SECRET_FILE", "AUTH_JWKS")
_COLOURS = {"command": "36", "query": "32", "projector": "35"}  # cyan, green, magenta


class _Stopped(BaseException):
    """Somebody asked us to stop. Not an Exception: nothing on the way may take it for a failure."""


def main(arguments: list[str]) -> int:
    """Run the named command; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m deploy.local", description="Runroom on this machine.")
    parser.add_argument("command", choices=("up", "projector"), nargs="?", default="up")
    parser.add_argument("--with-parent", action="store_true", help="stop when the parent process is gone")
    options = parser.parse_args(arguments)
    if options.with_parent:
        _end_with_parent()
    try:
        return _up() if options.command == "up" else _projector()
    except (LocalError, SettingsError) as error:
        print(error, file=sys.stderr)
        return 1


def _up() -> int:
    stack = LocalStack(read_settings(os.environ), echo=_Printer())
    try:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, _stop_once)
        print("Starting PostgreSQL, NATS and the services …", flush=True)
        stack.start()
        print(_welcome(stack), flush=True)
        while (sentence := stack.death()) is None:
            time.sleep(_WATCH_INTERVAL_S)
        raise LocalError(sentence)
    except _Stopped:
        _tell("Stopping …")
        stack.stop()
        _tell("Stopped. The data stays.")
        return 0
    finally:
        _ignore_signals()
        stack.stop()


def _projector() -> NoReturn:
    """Become a projector of the running stack, on the first free port from PROJECTOR_PORT on."""
    settings = read_settings({name: os.environ.get(name, "") for name in ("DATA_DIR", "PROJECTOR_PORT")})
    addresses = read_stack_file(settings.data_dir)
    port = next(filter(is_free, range(settings.projector_port, 65536)), 0)
    if not port:
        raise LocalError(f"No port is free on {LOOPBACK} from {settings.projector_port} on; set PROJECTOR_PORT lower.")
    variables = {**os.environ, **addresses, "HOST": LOOPBACK, "PROJECTOR_PORT": str(port)}
    print(f"One more projector on http://{LOOPBACK}:{port}; Ctrl-C stops it.", flush=True)
    os.chdir(ROOT)
    os.execve(sys.executable, [sys.executable, "-m", "services.projector"], variables)  # noqa: S606 - on purpose


def _end_with_parent() -> None:
    """SIGTERM when our parent dies, even by kill -9. Only Linux can; elsewhere a killed `make` leaves us running."""
    if sys.platform == "linux":
        parent = os.getppid()
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGTERM), 0, 0, 0)
        if os.getppid() != parent:
            sys.exit(0)


def _stop_once(_number: int, _frame: object) -> None:
    """First signal: stop in order. Later ones change nothing, as stopping takes a bounded time."""
    _ignore_signals()
    raise _Stopped


def _ignore_signals() -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)


def _tell(line: str) -> None:
    """Print, unless the terminal is gone: stopping must go on."""
    try:
        print(line, flush=True)
    except OSError:
        _drop_output()


def _drop_output() -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class _Printer:
    """Lines of all services, each prefixed with its service, one at a time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._colour = sys.stdout.isatty() and "NO_COLOR" not in os.environ

    def __call__(self, service: str, line: str) -> None:
        prefix = f"{service:<11} │ "
        if self._colour:
            prefix = f"\x1b[{_COLOURS[service.partition('-')[0]]}m{prefix}\x1b[0m"
        else:
            line = without_colour(line)
        with self._lock:
            _tell(prefix + line)


def asks_for_tokens(variables: Mapping[str, str]) -> bool:
    """Whether services that run with these variables have authentication on."""
    return any(variables.get(name, "").strip() for name in _KEYS)


def _welcome(stack: LocalStack) -> str:
    settings = stack.settings
    command, query = stack.command_url, stack.query_url
    rows = [
        ("command", command, "takes commands"),
        ("query", query, "answers reads, streams rooms"),
        *((projector.name, projector.url, "keeps the read side up to date") for projector in stack.projectors),
        ("PostgreSQL", _place(stack.postgres and f"{LOOPBACK}:{stack.postgres.port}"), "event_store, projections"),
        ("NATS", _place(stack.nats and stack.nats.url), "stream ROOMS"),
        ("data", str(settings.data_dir), f"DSNs and URLs in {STACK_FILE}, logs in logs/"),
    ]
    token, where_from = "", ""
    if asks_for_tokens(os.environ):
        token, where_from = ' -H "Authorization: Bearer $TOKEN"', " with a TOKEN (README.md shows how to make one)"
    width = max(len(where) for _, where, _ in rows)
    table = "\n".join(f"  {name:<13}{where:<{width}}  {what}" for name, where, what in rows)
    return f"""
Runroom is up.

{table}

Try, in another terminal{where_from}:

  make demo
      an agent run, told as it happens
  curl -i {command}/v1/runs -H 'content-type: application/json' -d '{{"room_id": "lobby", "title": "Hello"}}'{token}
      create a run
  curl -N '{query}/v1/streams/rooms/lobby'{token}
      the room it is in, history first and then live

Ctrl-C stops everything; the data stays.
"""


def _place(embedded: str | None) -> str:
    return embedded or "as given by URL"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
