"""Running a service's HTTP server until it is told to stop.

Invariant: SIGTERM and SIGINT end a service cleanly with exit status 0: it stops accepting, drains, then closes what it
opened. A taken port or a crashed background task is one plain sentence and a non-zero status.
"""

import asyncio
import contextlib
import ctypes
import errno
import gc
import signal
import socket
import sys
from collections.abc import Awaitable, Callable, Coroutine, Generator
from functools import partial
from typing import Any, cast

import structlog
import uvicorn
import uvloop
from litestar.types import ASGIApp

from shared.http.backlog import Backlog
from shared.http.connection import CRUMBS_AT_ONCE, REQUESTS_AT_ONCE, Connection
from shared.http.cors import Cors
from shared.http.deadlines import RequestTimes
from shared.http.exchange import ObservedApp
from shared.http.head import MOST_ARRIVING_BYTES
from shared.http.paths import PathsAsWritten
from shared.http.quota import MOST_WAITING_BYTES, Quota
from shared.metrics import ARRIVING_BYTES, ARRIVING_REFUSED
from shared.postgres import report
from shared.settings import SettingsError
from shared.telemetry import Logger
from shared.turns import Turns
from shared.vitals import watched_process

_M_MMAP_THRESHOLD = -3
"""As in glibc's ``malloc.h``."""
_LARGE_BLOCK_BYTES = 1024 * 1024
_TCP_USER_TIMEOUT = getattr(socket, "TCP_USER_TIMEOUT", None)


class ServiceError(Exception):
    """The service cannot run. The message is one plain sentence."""


def run(main: Callable[[], Coroutine[Any, Any, None]]) -> int:
    """Runs the coroutine to its end on uvloop; the exit status for the process."""
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.get_loop().set_exception_handler(report)
            runner.run(main())
    except (ServiceError, SettingsError) as error:
        print(error, file=sys.stderr)  # noqa: T201
        return 1
    except KeyboardInterrupt:
        return 0
    return 0


def bind(host: str, port: int, *, send_buffer: int | None = None, stall_seconds: float = 30.0) -> socket.socket:
    """A listening socket. Raises ``ServiceError`` when the port is taken, ``SettingsError`` when the address is not
    ours.

    ``send_buffer`` (bytes) bounds what the kernel holds for each client that reads slowly; accepted connections inherit
    it. ``stall_seconds``: the kernel drops a connection whose peer takes nothing for that long (RFC 5482).
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if send_buffer is not None:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_buffer)
        if _TCP_USER_TIMEOUT is not None:
            listener.setsockopt(socket.IPPROTO_TCP, _TCP_USER_TIMEOUT, int(stall_seconds * 1000))
        listener.bind((host, port))
        listener.listen(2048)
        listener.setblocking(False)
    except OSError as error:
        listener.close()
        if isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL:
            # No other port would do.
            raise SettingsError(f"HOST is {host!r}: no address of this machine ({error.strerror or error})") from error
        raise ServiceError(f"cannot listen on {host}:{port}: {error.strerror or error}") from error
    return listener


class _Server(uvicorn.Server):
    """A uvicorn server whose signals are ours: it neither installs handlers nor raises signals again when done."""

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield


async def serve(
    app: ASGIApp,
    listener: socket.socket,
    *,
    cors: Cors | None = None,
    backlog: Backlog | None = None,
    grace_seconds: float = 10.0,
    drain: Callable[[], Awaitable[None] | None] | None = None,
    tasks: tuple[asyncio.Task[None], ...] = (),
    head_seconds: float = 10.0,
    body_seconds: float = 30.0,
) -> None:
    """Serves until SIGTERM or SIGINT, or until one of ``tasks`` ends, which is a ``ServiceError``.

    ``drain`` is called once when stopping begins, before connections are waited for: long-lived responses end there,
    because uvicorn waits for them. ``grace_seconds`` bounds that wait; what is left then is cut. A request's
    head has to be whole within ``head_seconds``, its body within ``body_seconds`` after that. ``cors`` is for whatever
    is answered, also to what is no request; ``backlog`` is told what is not taken.
    """
    log: Logger = structlog.get_logger("serving")
    cors = cors or Cors(())
    times = RequestTimes(head_seconds, body_seconds)
    turns = Turns(REQUESTS_AT_ONCE)
    heads = Backlog(MOST_ARRIVING_BYTES, held=ARRIVING_BYTES, drops=ARRIVING_REFUSED)
    connection = partial(
        Connection,
        turns=turns,
        quota=Quota(MOST_WAITING_BYTES),
        backlog=backlog or Backlog(),
        times=times,
        heads=heads,
        crumbs=Turns(CRUMBS_AT_ONCE),
        cors=cors,
    )
    server = _Server(
        uvicorn.Config(
            cast("Any", ObservedApp(cors.wrap(PathsAsWritten(app)))),
            interface="asgi3",
            http=cast("type[asyncio.Protocol]", connection),
            ws="none",
            lifespan="on",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_keep_alive=75,
            timeout_graceful_shutdown=int(grace_seconds),
        )
    )
    give_large_blocks_back()
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    serving = asyncio.create_task(server.serve(sockets=[listener]), name="http")
    stopping = asyncio.create_task(stop.wait(), name="stop")
    try:
        with watched_process():
            _collect_seldom()
            done, _ = await asyncio.wait({serving, stopping, *tasks}, return_when=asyncio.FIRST_COMPLETED)
            crashed = [task for task in tasks if task in done]
            log.info("stopping", reason="signal" if stop.is_set() else "task ended")
            if drain is not None and (pending := drain()) is not None:
                await pending
            server.should_exit = True
            await serving
    finally:
        stopping.cancel()
    for task in crashed:
        error = None if task.cancelled() else task.exception()
        raise ServiceError(f"{task.get_name()} ended unexpectedly: {type(error).__name__}: {error}") from error


def _collect_seldom() -> None:
    """Leaves what the start has made out of garbage collections, and has the full ones come seldom.

    They look at every object: at those of ten thousand streams, of a hundred thousand runs that are remembered, and
    everybody waits meanwhile.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 20, 100)


def give_large_blocks_back() -> None:
    """Has glibc always take large blocks from the system and give them back when they are freed.

    By itself it keeps blocks of the size of those that were freed before (``mallopt(3)``, dynamic mmap threshold). The
    tables of dicts with a hundred thousand entries are such blocks, rebuilt all the time while entries come and go, and
    what is left between them grows in steps. Other C libraries are left as they are.
    """
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, _LARGE_BLOCK_BYTES)
