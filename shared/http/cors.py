"""Which other origins' pages may read answers (Fetch standard, section 3.2).

Invariant: an origin is named in an answer only if it is one of those that were set, to the letter. Errors are answers
too, whoever makes them, and so is what is written past every middleware, a stream and what the server itself says:
its head has ``head_lines``.
"""

import re
from collections.abc import Iterable, Sequence
from typing import Final, cast

from litestar.types import ASGIApp, HTTPResponseStartEvent, Message, Receive, Scope, Send

from shared.settings import MOST_PORT, Environment

_ORIGIN: Final = re.compile(
    r"(?P<scheme>[a-z][a-z0-9+.-]*)://(?:\[[0-9a-f:.]+\]|[a-z0-9._~-]+)(?::(?P<port>[0-9]{1,5}))?"
)
"""As browsers send it: in lower case, in ASCII, without what is the default."""
_DEFAULT_PORTS: Final = {("http", "80"), ("https", "443")}
_VARY: Final = (b"vary", b"Origin")
_SHARED: Final = [
    (b"access-control-allow-credentials", b"true"),
    (b"access-control-expose-headers", b"Location, Retry-After, Idempotency-Replayed, WWW-Authenticate, X-Request-Id"),
    _VARY,
]
_PREFLIGHT: Final = [
    (b"access-control-allow-credentials", b"true"),
    (b"access-control-allow-methods", b"GET, POST, DELETE"),
    (
        b"access-control-allow-headers",
        b"authorization, content-type, idempotency-key, last-event-id, traceparent, tracestate, x-actor-id,"
        b" x-actor-type, x-request-id, x-workspace-id",
    ),
    (b"access-control-max-age", b"600"),
    _VARY,
]
Headers = list[tuple[bytes, bytes]]


def read_origins(env: Environment) -> tuple[str, ...]:
    """The origins in ``CORS_ORIGINS``, separated by commas. Faults are left in ``env``."""
    given = (env.optional("CORS_ORIGINS") or "").split(",")
    origins = tuple(origin for text in given if (origin := text.strip()))
    for origin in origins:
        if not _is_origin(origin):
            env.fault(f"CORS_ORIGINS: {origin!r} is no origin: expected scheme://host or scheme://host:port, and no *")
    return origins


def _is_origin(text: str) -> bool:
    """Whether a browser could send it as it stands (RFC 6454, section 6.2)."""
    parts = _ORIGIN.fullmatch(text)
    if parts is None:
        return False
    scheme, port = parts["scheme"], parts["port"]
    if port is None:
        return True
    return int(port) <= MOST_PORT and str(int(port)) == port and (scheme, port) not in _DEFAULT_PORTS


class Cors:
    """The origins whose pages may read answers; none of them costs nothing."""

    def __init__(self, origins: Sequence[str]) -> None:
        self._headers: dict[bytes, Headers] = {
            origin.encode(): [(b"access-control-allow-origin", origin.encode()), *_SHARED] for origin in origins
        }
        self._lines = {
            origin: b"".join(b"%b: %b\r\n" % header for header in headers) for origin, headers in self._headers.items()
        }
        self._other_lines = b"%b: %b\r\n" % _VARY if origins else b""

    def wrap(self, app: ASGIApp) -> ASGIApp:
        """The application, its answers with what browsers have to be told."""
        return _Wrapped(app, self._headers) if self._headers else app

    def head_lines(self, request_headers: Iterable[tuple[bytes, bytes]]) -> bytes:
        """The same as lines of an answer's head."""
        if not self._lines:
            return b""
        return self._lines.get(_origin(request_headers), self._other_lines)


class _Wrapped:
    def __init__(self, app: ASGIApp, headers: dict[bytes, Headers]) -> None:
        self._app = app
        self._headers = headers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        origin = _origin(scope["headers"])
        headers = self._headers.get(origin)
        if headers is not None and scope["method"] == "OPTIONS" and _is_preflight(scope):
            start: HTTPResponseStartEvent = {
                "type": "http.response.start",
                "status": 204,
                "headers": [(b"access-control-allow-origin", origin), *_PREFLIGHT],
            }
            await send(start)
            await send({"type": "http.response.body", "body": b"", "more_body": False})
            return
        added = self._headers.get(origin, [_VARY])

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                begun = cast("dict[str, Headers]", message)
                begun["headers"] = [*begun["headers"], *added]
            await send(message)

        await self._app(scope, receive, send_with_headers)


def _origin(headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    return next((value for name, value in headers if name == b"origin"), b"")


def _is_preflight(scope: Scope) -> bool:
    return any(name == b"access-control-request-method" for name, _ in scope["headers"])
