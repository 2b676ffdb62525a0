"""How the answer to a stream's request begins and ends.

Invariant: a browser is never turned away for good, as any status but 200 would do.
"""

from typing import Final

from litestar.types import HTTPResponseBodyEvent, HTTPResponseStartEvent, Send

from services.query.feed.frame import BUSY_RETRY_MS, StreamLimit, busy_frame, retry_frame
from services.query.metrics import STREAMS_BUSY

_HEADERS: Final[list[tuple[bytes, bytes]]] = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache, no-transform"),
    (b"x-accel-buffering", b"no"),
]
HEAD: Final = b"HTTP/1.1 200 OK\r\n" + b"".join(b"%b: %b\r\n" % header for header in _HEADERS)
"""What the server says by itself follows."""
END: Final[HTTPResponseBodyEvent] = {"type": "http.response.body", "body": b"", "more_body": False}


async def turn_away(send: Send, limit: StreamLimit) -> None:
    """The whole answer where there is no room for one more stream."""
    STREAMS_BUSY.labels(limit).inc()
    start: HTTPResponseStartEvent = {"type": "http.response.start", "status": 200, "headers": _HEADERS}
    await send(start)
    await send(
        {"type": "http.response.body", "body": retry_frame(BUSY_RETRY_MS) + busy_frame(limit), "more_body": False}
    )
