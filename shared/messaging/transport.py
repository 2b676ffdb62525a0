"""The connection that the NATS client writes to.

Invariant: closing it waits for nobody. Whoever wants something to arrive flushes first. What is written to a connection
that is lost is lost with it, whether or not anybody has been told yet, and is no error of whoever writes.
"""

import asyncio
from urllib.parse import ParseResult

from nats.aio.transport import TcpTransport


class Transport(TcpTransport):
    """Is closed at once. The library's waits until the server has read everything, and one that hangs reads nothing."""

    def __bool__(self) -> bool:
        # The library puts another in the place of one that it takes for none.
        return True

    async def connect(self, uri: ParseResult, buffer_size: int, connect_timeout: int) -> None:
        # What an attempt that came to nothing has left open.
        self.close()
        await super().connect(uri, buffer_size, connect_timeout)

    def write(self, payload: bytes) -> None:
        if self._is_open():
            super().write(payload)

    def writelines(self, payload: list[bytes]) -> None:
        if self._is_open():
            super().writelines(payload)

    def _is_open(self) -> bool:
        # uvloop's raises RuntimeError from when it has read a reset; others hear of that some turns of the loop later.
        return self._io_writer is None or not self._io_writer.transport.is_closing()

    def close(self) -> None:
        if self._io_writer is not None:
            self._io_writer.transport.abort()

    async def wait_closed(self) -> None:
        # The library's waits for ever after a handshake that came to nothing: what was closed is not what it looks at.
        await asyncio.sleep(0)
