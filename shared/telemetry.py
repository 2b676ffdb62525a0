"""Structured logs and metrics, the same in every service.

Invariant: a log line is one event with named values. Payloads, tokens and DSNs are never among them.
"""

import logging
import sys
from typing import Literal

import structlog
from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, generate_latest

Logger = structlog.stdlib.BoundLogger
LogFormat = Literal["auto", "json", "console"]


def configure_logging(service: str, level: str, log_format: str) -> None:
    """Sends structlog and the standard library's loggers to standard error.

    ``log_format``: ``json``, ``console``, or ``auto``: console on a terminal, else JSON.
    """
    console = log_format == "console" or (log_format == "auto" and sys.stderr.isatty())
    shared = [
        structlog.contextvars.merge_contextvars,
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
            *([] if console else [render_exception]),
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
    structlog.contextvars.bind_contextvars(service=service)


def render_metrics() -> tuple[bytes, str]:
    """The process's metrics in Prometheus text format, and their content type."""
    return generate_latest(REGISTRY), CONTENT_TYPE_LATEST
