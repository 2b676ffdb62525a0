"""A TCP proxy that can cut a connection at the worst moment: after a request went through, before its answer does."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from urllib.parse import urlsplit, urlunsplit


class CuttingProxy:
    """Forwards to ``host:port``. ``cut_after`` makes it cut the next connection that sends these bytes."""

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self._armed: bytes | None = None
        self.cuts = 0
        self.port = 0

    def cut_after(self, sent: bytes) -> None:
        self._armed = sent

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            upstream_reader, upstream_writer = await asyncio.open_connection(*self._target)
            cut = asyncio.Event()
            forward = asyncio.create_task(self._forward(reader, upstream_writer, cut))
            back = asyncio.create_task(_copy(upstream_reader, writer, cut))
            await asyncio.wait({forward, back}, return_when=asyncio.FIRST_COMPLETED)
            for task in (forward, back):
                task.cancel()
            await asyncio.gather(forward, back, return_exceptions=True)
            upstream_writer.close()
        writer.close()

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, cut: asyncio.Event) -> None:
        while data := await reader.read(65536):
            if self._armed is not None and self._armed in data:
                self._armed = None
                self.cuts += 1
                cut.set()
                writer.write(data)
                await writer.drain()
                await asyncio.sleep(0.2)  # long enough for the server to have done what it was asked
                return
            writer.write(data)
            await writer.drain()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, cut: asyncio.Event) -> None:
    while data := await reader.read(65536):
        if cut.is_set():
            await asyncio.sleep(3600)
        writer.write(data)
        await writer.drain()


@contextlib.asynccontextmanager
async def cutting_proxy(url: str) -> AsyncGenerator[tuple[CuttingProxy, str], None]:
    """A proxy to the host and port of the URL, and the URL that goes through it."""
    parts = urlsplit(url)
    assert parts.hostname is not None
    assert parts.port is not None
    proxy = CuttingProxy(parts.hostname, parts.port)
    server = await asyncio.start_server(proxy.handle, "127.0.0.1", 0)
    proxy.port = server.sockets[0].getsockname()[1]
    location = parts.netloc.rpartition("@")[0] + f"@127.0.0.1:{proxy.port}"
    async with server:
        yield proxy, urlunsplit(parts._replace(netloc=location.removeprefix("@")))
