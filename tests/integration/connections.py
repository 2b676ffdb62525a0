"""Connections as the services' server has them, around an application that does not end its answers."""

from __future__ import annotations

import asyncio
import gc
import socket
from collections.abc import AsyncGenerator, Collection, Coroutine
from contextlib import asynccontextmanager
from typing import Any, cast

import uvicorn
import uvloop
from litestar.types import Receive, Scope, Send
from prometheus_client import CollectorRegistry, Gauge
from uvicorn.server import ServerState

from shared.http.backlog import Backlog
from shared.http.connection import CRUMBS_AT_ONCE, Connection
from shared.http.cors import Cors
from shared.http.deadlines import RequestTimes
from shared.http.exchange import ObservedApp
from shared.http.quota import Quota
from shared.turns import Turns

PATIENCE = 10.0


class Crashing:
    """Answers ``/whole``; begins any other answer, waits for ``go_on`` and does as ``end`` says.

    With ``wait`` it waits before it begins.
    """

    def __init__(self, end: str) -> None:
        self.end = end
        self.body = b"body"
        self.has_begun = asyncio.Event()
        self.go_on = asyncio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        assert scope["type"] == "http"
        if self.end == "wait":
            self.has_begun.set()
            await self.go_on.wait()
        length = b"%d" % len(self.body)
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", length)]})
        if scope["path"] != "/whole":
            self.has_begun.set()
            await self.go_on.wait()
            if self.end == "raise":
                raise RuntimeError("between head and body")
            if self.end == "return":
                return
        await send({"type": "http.response.body", "body": self.body, "more_body": False})


class Served:
    """``connections`` are those that the server has."""

    def __init__(self, app: Crashing, port: int, connections: Collection[object], registry: CollectorRegistry) -> None:
        self.app = app
        self.port = port
        self.connections = connections
        self._registry = registry

    async def until_arriving(self, least: int, most: int) -> None:
        """Returns when so many bytes of heads are on their way."""
        await self._until("arriving", least, most)

    async def until_ahead(self, least: int, most: int) -> None:
        """Returns when so many bytes have come and are yet to be read."""
        await self._until("ahead", least, most)

    async def _until(self, gauge: str, least: int, most: int) -> None:
        async with asyncio.timeout(PATIENCE):
            while not least <= (self._registry.get_sample_value(gauge) or 0) <= most:
                await asyncio.sleep(0.01)

    async def half(self, field: bytes = b"") -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A client whose answer has begun."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(b"POST /half HTTP/1.1\r\nHost: h\r\n" + field + b"\r\n")
        async with asyncio.timeout(PATIENCE):
            await self.app.has_begun.wait()
        return reader, writer

    async def empty(self) -> None:
        """Returns when there is no connection any more."""
        async with asyncio.timeout(PATIENCE):
            while self.connections:
                await asyncio.sleep(0.01)

    async def whole(self) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(b"GET /whole HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
        async with asyncio.timeout(PATIENCE):
            said = await reader.read()
        writer.close()
        return said


@asynccontextmanager
async def served(
    end: str | Crashing,
    *,
    keep_alive: int = 75,
    linger: float = 60,
    most_heads: int | None = None,
    most_ahead: int | None = None,
    most_waiting: int | None = None,
    turns: Turns | None = None,
    kind: type[Connection] = Connection,
) -> AsyncGenerator[Served, None]:
    """The server's connections around the application, in this loop. Nothing may be left that nobody caught."""
    loop = asyncio.get_running_loop()
    errors: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda _, context: errors.append(context))
    app = Crashing(end) if isinstance(end, str) else end
    config = uvicorn.Config(
        cast("Any", ObservedApp(app)),
        interface="asgi3",
        log_config=None,
        access_log=False,
        timeout_keep_alive=keep_alive,
    )
    config.load()
    state = ServerState()
    times, cors = RequestTimes(5, 5, linger), Cors(())
    turns, quota = turns or Turns(32), Quota(most_waiting)
    registry = CollectorRegistry()
    heads = Backlog(most_heads, held=Gauge("arriving", "", registry=registry))
    backlog = Backlog(most_ahead, held=Gauge("ahead", "", registry=registry))

    def connection() -> Connection:
        return kind(
            config=config,
            server_state=state,
            app_state={},
            turns=turns,
            quota=quota,
            backlog=backlog,
            times=times,
            heads=heads,
            crumbs=Turns(CRUMBS_AT_ONCE),
            cors=cors,
        )

    listener = socket.create_server(("127.0.0.1", 0))
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 128 * 1024)  # so that the kernel does not take it all
    server = await loop.create_server(connection, sock=listener)
    try:
        yield Served(app, server.sockets[0].getsockname()[1], state.connections, registry)
    finally:
        app.go_on.set()
        server.close()
        for one in list(state.connections):
            cast("Connection", one).transport.abort()  # or the loop would wait for it
        async with asyncio.timeout(PATIENCE):
            await asyncio.gather(*state.tasks, return_exceptions=True)
        gc.collect()  # a task that failed unseen says so when it goes
        assert not errors


def as_in_production(check: Coroutine[Any, Any, None]) -> None:
    """Runs it on the loop that services have: what is written to a connection that is gone is an error there."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(check)
