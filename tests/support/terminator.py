"""What stands before a PostgreSQL to speak TLS for it, as poolers and `stunnel` do: the embedded build cannot itself.

Invariant: nothing that is not encrypted gets through.
"""

from __future__ import annotations

import asyncio
import ssl
import struct
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress

_SSL_REQUEST = struct.pack("!ii", 8, 80877103)


@asynccontextmanager
async def terminating(port: int, context: ssl.SSLContext) -> AsyncGenerator[int, None]:
    """A port on loopback behind which is the PostgreSQL at the port given."""
    serving: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            if await reader.readexactly(len(_SSL_REQUEST)) != _SSL_REQUEST:
                return
            writer.write(b"S")
            await writer.drain()
            await writer.start_tls(context)
            there, back = await asyncio.open_connection("127.0.0.1", port)
            try:
                await asyncio.gather(_pump(reader, back), _pump(there, writer))
            finally:
                back.close()
        except (OSError, asyncio.IncompleteReadError):
            pass  # whoever it was has gone, or did not like our certificate
        finally:
            writer.close()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(serve(reader, writer))
        serving.add(task)
        task.add_done_callback(serving.discard)

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in serving:
            task.cancel()
        with suppress(asyncio.CancelledError):
            await asyncio.gather(*serving, return_exceptions=True)


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.close()
