"""Bodies on their way in: of all requests of a process together, in bytes.

Invariant: what has come of bodies that are not whole is bounded. Beyond the limit, those that have been coming for
longest are refused, or the one that would come next if none has for long (docs/decisions/0081).

A body that comes in one piece costs nothing of this. In several it is kept as it grows, not as pieces: a byte that was
sent by itself would be 40.
"""

import asyncio
from typing import Any, Final, cast

from litestar import Request
from litestar.types import HTTPReceiveMessage

from services.command.http.answers import too_many_bodies
from shared.http.backlog import Backlog
from shared.http.problems import Problem, invalid_request
from shared.metrics import ARRIVING_BYTES, ARRIVING_REFUSED


class _Arriving:
    """A body that is not whole."""

    def __init__(self) -> None:
        self.until = asyncio.timeout(None)
        self.is_dropped = False

    def drop(self) -> None:
        self.is_dropped = True
        self.until.reschedule(asyncio.get_running_loop().time())


class Reception:
    """``max_body_bytes`` of one, ``most_bytes`` of all that are not whole."""

    def __init__(self, *, max_body_bytes: int, most_bytes: int) -> None:
        self._max_body_bytes: Final = max_body_bytes
        self._backlog: Final = Backlog(most_bytes, held=ARRIVING_BYTES, drops=ARRIVING_REFUSED)

    async def read(self, request: Request[Any, Any, Any]) -> bytes:
        """The whole body, empty if there is none.

        Raises 413 ``body_too_large``, before the client is asked for the body if its length is known; 503
        ``overloaded``; and a problem that nobody gets if the client leaves.
        """
        self._check(request.content_length or 0)
        first, more = await self._receive(request)
        if not more:
            self._check(len(first))
            return first
        arriving = _Arriving()
        try:
            async with arriving.until:
                return await self._read_on(request, bytearray(first), arriving)
        except TimeoutError:
            raise too_many_bodies() from None
        finally:
            self._backlog.release(arriving)

    async def _read_on(self, request: Request[Any, Any, Any], body: bytearray, arriving: _Arriving) -> bytes:
        more = True
        while more:
            self._check(len(body))
            if arriving.is_dropped or not self._backlog.has_room():
                raise too_many_bodies()
            self._backlog.hold(arriving, len(body))
            piece, more = await self._receive(request)
            body += piece
        self._check(len(body))
        return bytes(body)

    async def _receive(self, request: Request[Any, Any, Any]) -> tuple[bytes, bool]:
        """The next piece, and whether there is more."""
        message = cast("HTTPReceiveMessage", await request.receive())
        if message["type"] == "http.disconnect":
            raise invalid_request("the request did not come whole")
        return message["body"], message["more_body"]

    def _check(self, size: int) -> None:
        if size > self._max_body_bytes:
            raise Problem(413, "body_too_large", f"the body is larger than {self._max_body_bytes} bytes")
