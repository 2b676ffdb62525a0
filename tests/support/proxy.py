"""TCP proxies in front of PostgreSQL and NATS, to cut connections, hold them up, or let answers vanish.

Invariant: a proxy changes nothing of what passes; it only decides whether and when.
"""

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncGenerator
from urllib.parse import urlsplit, urlunsplit


class Proxy:
    """Forwards to a port on this machine. ``port`` is where it listens."""

    def __init__(self, target_port: int) -> None:
        self.port = 0
        self._target_port = target_port
        self._delay = 0.0
        self._open = asyncio.Event()
        self._open.set()
        self._answers = asyncio.Event()
        self._answers.set()
        self._connections: set[asyncio.Task[None]] = set()
        self._resets = False
        self._cut_after: bytes | None = None
        self._hold_before: bytes | None = None
        self._held = asyncio.Event()
        self.holds = 0
        """How many connections were held up because of what they wanted to send."""
        self.cuts = 0
        """How many connections were cut because of what they sent."""

    def cut_after(self, sent: bytes) -> None:
        """The next connection that sends this gets it through, and is cut before the answer comes."""
        self._cut_after = sent

    def hold_before(self, sent: bytes) -> None:
        """Whoever sends this is held up with it until ``release``; what comes from the other side passes."""
        self._hold_before = sent
        self._held.clear()

    def cut(self, *, by_reset: bool = False) -> int:
        """Breaks every connection that is open now, in the middle of whatever it does. How many there were.

        ``by_reset``: as a machine that has forgotten them does (RFC 9293, RST), not one that ends them.
        """
        self._resets = by_reset
        for connection in self._connections:
            connection.cancel()
        return len(self._connections)

    async def end(self) -> None:
        """Breaks every connection, and returns when they are gone."""
        connections = list(self._connections)
        self.cut()
        await asyncio.gather(*connections, return_exceptions=True)

    def delay(self, seconds: float) -> None:
        """From now on everything passes so much later; 0 ends that."""
        self._delay = seconds

    def hold(self) -> None:
        """Nothing passes in either direction until ``release``; connections stay open."""
        self._open.clear()

    def swallow_answers(self) -> None:
        """Requests pass, answers do not, until ``release``."""
        self._answers.clear()

    def release(self) -> None:
        self._open.set()
        self._answers.set()
        self._held.set()
        self._hold_before = None

    async def serve(self) -> asyncio.Server:
        server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        return server

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = asyncio.ensure_future(self._forward(reader, writer))
        self._connections.add(connection)
        connection.add_done_callback(self._connections.discard)
        # Here, as one that is cut before it has begun never comes to its end.
        connection.add_done_callback(lambda _: self._break(writer))

    def _break(self, writer: asyncio.StreamWriter) -> None:
        if self._resets:
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        upstream = None
        try:
            upstream_reader, upstream = await asyncio.open_connection("127.0.0.1", self._target_port)
            async with asyncio.TaskGroup() as tasks:
                back = tasks.create_task(self._copy(upstream_reader, writer, (self._answers,)))
                there = tasks.create_task(self._copy(reader, upstream, (), back))
                await asyncio.wait({there, back}, return_when=asyncio.FIRST_COMPLETED)
                there.cancel()
                back.cancel()
        except* OSError:
            pass  # either side is gone, which ends the other
        finally:
            if upstream is not None:
                upstream.transport.abort()

    async def _copy(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        gates: tuple[asyncio.Event, ...],
        answers: asyncio.Task[None] | None = None,
    ) -> None:
        while data := await reader.read(65536):
            if answers is not None and self._cut_after is not None and self._cut_after in data:
                self._cut_after = None
                self.cuts += 1
                answers.cancel()
                writer.write(data)
                await asyncio.sleep(0.2)  # long enough for the server to have done what it was asked
                return
            if answers is not None and self._hold_before is not None and self._hold_before in data:
                self.holds += 1
                await self._held.wait()
            for gate in (self._open, *gates):
                await gate.wait()
            if self._delay:
                await asyncio.sleep(self._delay)
            writer.write(data)
            await writer.drain()


@contextlib.asynccontextmanager
async def running_proxy(target_port: int) -> AsyncGenerator[Proxy, None]:
    proxy = Proxy(target_port)
    server = await proxy.serve()
    try:
        yield proxy
    finally:
        server.close()
        await proxy.end()


def through(proxy: Proxy, url: str) -> str:
    """The URL with the proxy's port."""
    parts = urlsplit(url)
    credentials = parts.netloc.rpartition("@")[0]
    host = f"{parts.hostname}:{proxy.port}"
    return urlunsplit(parts._replace(netloc=f"{credentials}@{host}" if credentials else host))
