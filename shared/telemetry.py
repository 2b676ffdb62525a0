"""Structured logs and metrics, the same in every service.

Invariant: a log line is one event with named values. Payloads, tokens and DSNs are never among them. A line that is
written while a request is handled has its ``request_id``, and ``correlation_id``, ``trace_id`` and ``span_id`` where
there are such.
"""

import logging
import sys
import time
from typing import Literal

import structlog
from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, generate_latest
from structlog.typing import EventDict, Processor

from shared.context import current_request
from shared.contracts.tracecontext import trace_and_span
from shared.printable import printable

Logger = structlog.stdlib.BoundLogger
LogFormat = Literal["auto", "json", "console"]


class LineBudget:
    """For lines that clients or peers can bring about: so many in so many seconds, and how many more there would have
    been."""

    def __init__(self, lines: int, seconds: int = 1) -> None:
        self._lines = lines
        self._seconds = seconds
        self._time = 0
        self._written = 0
        self._left_out = 0

    def take(self) -> int | None:
        """How many lines were left out since the last one; None when this one is, too."""
        now = int(time.monotonic()) // self._seconds
        if now != self._time:
            self._time, self._written = now, 0
        if self._written >= self._lines:
            self._left_out += 1
            return None
        self._written += 1
        left_out, self._left_out = self._left_out, 0
        return left_out


def configure_logging(service: str, level: str, log_format: str) -> None:
    """Sends structlog and the standard library's loggers to standard error.

    ``log_format``: ``json``, ``console``, or ``auto``: console on a terminal, else JSON.
    """
    console = log_format == "console" or (log_format == "auto" and sys.stderr.isatty())
    shared = [
        _add_service(service),
        _add_request,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    # Tracebacks without the values of variables: those are payloads and secrets.
    render_exception = structlog.processors.ExceptionRenderer(
        structlog.tracebacks.ExceptionDictTransformer(show_locals=False)
    )
    renderer = (
        structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
        if console
        else structlog.processors.JSONRenderer()
    )
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=shared,
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            _make_printable if console else render_exception,
            renderer,
        ],
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    # Access lines say nothing the metrics don't; asyncio's debug chatter says nothing at all.
    for noisy in ("uvicorn.access", "asyncio", "nats"):
        logging.getLogger(noisy).setLevel(logging.ERROR)
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )


def _add_service(service: str) -> Processor:
    def add(_: object, __: str, event: EventDict) -> EventDict:
        event["service"] = service
        return event

    return add


def _make_printable(_: object, __: str, event: EventDict) -> EventDict:
    """Values may be of whoever sent something; JSON escapes by itself."""
    return {name: printable(value) if isinstance(value, str) else value for name, value in event.items()}


def _add_request(_: object, __: str, event: EventDict) -> EventDict:
    request = current_request()
    if request is not None:
        event["request_id"] = request.request_id
        if request.correlation_id is not None:
            event["correlation_id"] = request.correlation_id
        if request.traceparent is not None:
            event["trace_id"], event["span_id"] = trace_and_span(request.traceparent)
    return event


def render_metrics() -> tuple[bytes, str]:
    """The process's metrics in Prometheus text format, and their content type."""
    return generate_latest(REGISTRY), CONTENT_TYPE_LATEST
