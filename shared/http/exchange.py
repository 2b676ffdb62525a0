"""One request and its answer, as an operator sees them: an id, a log line where it is worth one, a metric, a span.

Invariant: every answer carries ``x-request-id``, the client's own if it is well-formed. What is written to the log is
bounded: answers that fail, callers who are not let in and slow ones, a few lines a second of each at the most, with the
number of those left out.

It stands outside of the framework: one object a request, which is what the answer is sent through as well. It costs a
request 3 µs, where the framework's own middleware takes 20.
"""

import logging
import re
import secrets
import time
from collections.abc import Awaitable, Mapping
from itertools import count
from typing import Any, Final, cast

import structlog
from litestar.types import ASGIApp, HTTPResponseStartEvent, Message, Receive, Scope, Send
from prometheus_client import Histogram

from shared import tracing
from shared.context import RequestContext, current_request, enter_request
from shared.contracts.tracecontext import is_traceparent
from shared.metrics import HTTP_SECONDS
from shared.telemetry import LineBudget, Logger

REQUEST_ID: Final = b"x-request-id"
SLOW_SECONDS: Final = 1.0
_LINES_A_SECOND: Final = 10
_WELL_FORMED = re.compile(rb"[!-~]{1,128}")
_METHODS: Final = frozenset({"DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"})
_CLASSES: Final = ("", "1xx", "2xx", "3xx", "4xx", "5xx")

_log: Logger = structlog.get_logger("http")
_plain_log = logging.getLogger("http")

_prefix = secrets.token_hex(8).encode()
_numbers = count(1)
_seconds: dict[tuple[str, str, int], Histogram] = {}


_failed, _refused, _slow = (LineBudget(_LINES_A_SECOND) for _ in range(3))


def known_by(given: bytes | None, headers: list[tuple[bytes, bytes]]) -> bytes:
    """The id of a request whose last ``x-request-id`` is ``given``. One that is made here is the last one then."""
    if given is None or not _WELL_FORMED.fullmatch(given):
        given = b"%b-%x" % (_prefix, next(_numbers))
        headers.append((REQUEST_ID, given))
    return given


def path_as_sent(scope: Mapping[str, Any]) -> str:
    """The request's path without the query, percent-encoded: ASCII without control characters, whatever it stands for.

    Decoded, it could tell the terminal of whoever reads it in a log what to do.
    """
    raw_path: bytes = scope["raw_path"]
    return raw_path.partition(b"?")[0].decode("ascii", "replace")


class Exchange(RequestContext):
    """What an application sends its answer through. ``is_reported``: there is a log line about its failure already.

    ``error`` is the code of the problem that is answered with, ``reason`` why its caller is not let in.
    """

    __slots__ = ("_scope", "_send", "_span", "_started", "_status", "error", "is_reported", "reason")

    def __init__(self, scope: Scope, send: Send) -> None:
        given = traceparent = None
        headers = cast("list[tuple[bytes, bytes]]", scope["headers"])
        for name, value in headers:
            if name == REQUEST_ID:
                given = value
            elif name == b"traceparent":
                traceparent = value.decode("latin-1")
        if traceparent is not None and not is_traceparent(traceparent):
            traceparent = None
        self._span = None
        if (tracer := tracing.active()) is not None:
            self._span = tracer.begin_request(traceparent)
            if self._span is not None:
                traceparent = self._span.traceparent
        super().__init__(known_by(given, headers), traceparent)
        self.is_reported = False
        self.error: str | None = None
        self.reason: str | None = None
        self._scope = cast("dict[str, Any]", scope)
        self._send = send
        self._status = 0
        self._started = time.perf_counter()

    def __call__(self, message: Message) -> Awaitable[None]:
        if message["type"] == "http.response.start":
            self._status = message["status"]
            message = cast(
                "HTTPResponseStartEvent",
                {**message, "headers": [*message["headers"], (REQUEST_ID, self.raw_request_id)]},
            )
        elif self._status and not message.get("more_body"):
            self._finish(self._status)
        return self._send(message)

    def began(self, status: int) -> None:
        """To be called where the answer is not sent through here, and may go on for hours: the span ends now."""
        if (span := self._span) is not None:
            self._span = None
            route = self._route()[1]
            span.end(f"GET {route}", _attributes("GET", route, status), failed=False)

    def _finish(self, status: int) -> None:
        seconds = time.perf_counter() - self._started
        method, route = self._route()
        key = (method, route, status // 100)
        histogram = _seconds.get(key)
        if histogram is None:
            histogram = _seconds[key] = HTTP_SECONDS.labels(f"{method} {route}", _CLASSES[status // 100])
        histogram.observe(seconds)
        if (span := self._span) is not None:
            span.end(f"{method} {route}", _attributes(method, route, status), failed=status >= 500)
        if status >= 500:
            if not self.is_reported:
                self._write(logging.WARNING, "request_failed", _failed, status, seconds)
        elif self.reason is not None:
            self._write(logging.INFO, "caller_refused", _refused, status, seconds)
        elif seconds >= SLOW_SECONDS:
            self._write(logging.INFO, "request_slow", _slow, status, seconds)
        elif _plain_log.isEnabledFor(logging.DEBUG):
            self._write(logging.DEBUG, "request", None, status, seconds)

    def _write(self, level: int, event: str, budget: LineBudget | None, status: int, seconds: float) -> None:
        left_out = 0 if budget is None else budget.take()
        if left_out is None:
            return
        named: dict[str, Any] = {"left_out": left_out or None, "error": self.error, "reason": self.reason}
        if (caller := self._scope.get("user")) is not None:  # the identity of a token
            named |= {"workspace_id": caller.workspace_id, "actor_id": caller.actor_id}
        # The path without the query: what is asked for is nobody's business.
        _log.log(
            level,
            event,
            method=self._scope["method"],
            path=path_as_sent(self._scope),
            status=status,
            milliseconds=round(seconds * 1000, 1),
            **{name: value for name, value in named.items() if value is not None},
        )

    def _route(self) -> tuple[str, str]:
        """Method and path template. There are few of either, whatever clients send."""
        method: str = self._scope["method"]
        return method if method in _METHODS else "OTHER", self._scope.get("path_template") or "none"


def _attributes(method: str, route: str, status: int) -> tracing.Attributes:
    return {"http.request.method": method, "http.route": route, "http.response.status_code": status}


class ObservedApp:
    """The application with every request as an ``Exchange``. An ASGI 3 application."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        if scope["type"] != "http":
            return self._app(scope, receive, send)
        exchange = Exchange(scope, send)
        enter_request(exchange)
        return self._app(scope, receive, exchange)


def current_exchange() -> Exchange | None:
    """The one that the running task handles."""
    request = current_request()
    return request if isinstance(request, Exchange) else None
