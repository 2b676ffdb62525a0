"""Metrics that every service has: HTTP, the process's own health, and the servers it talks to."""

import platform
from typing import Final

from prometheus_client import (
    GC_COLLECTOR,
    PLATFORM_COLLECTOR,
    REGISTRY,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
)

from shared.build import REVISION, VERSION

# When a counter began is of use to nobody here, and doubles what is scraped; what Python's own collectors say is in
# `runroom_gc_pause_seconds` and `runroom_build_info`.
disable_created_metrics()
for _collector in (GC_COLLECTOR, PLATFORM_COLLECTOR):
    REGISTRY.unregister(_collector)

_FINE = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)

BUILD_INFO = Gauge("runroom_build_info", "Always 1; what runs here.", ["service", "version", "revision", "python"])
HTTP_SECONDS = Histogram(
    "runroom_http_request_seconds",
    "Seconds from a request's head to the end of its answer, by method and path template, and by status: 2xx, 4xx, 5xx."
    " Room streams are not among them, unless they were refused.",
    ["route", "status"],
    buckets=_FINE,
)
AUTH_ERRORS: Final = ("missing_token", "invalid_token", "insufficient_scope", "keys_unavailable")
"""What callers are told who are not let in."""
AUTH_REFUSALS = Counter(
    "runroom_auth_refusals_total",
    f"Requests whose caller was not let in: {', '.join(AUTH_ERRORS)}.",
    ["error"],
)
BROKEN_ERRORS: Final = ("invalid_request", "request_timeout", "uri_too_long", "headers_too_large", "overloaded")
BROKEN_REQUESTS = Counter(
    "runroom_http_broken_requests_total",
    f"Requests that were refused before they were whole, and the connection closed: {', '.join(BROKEN_ERRORS)}. Those"
    " refused within their body are in runroom_http_request_seconds as well.",
    ["error"],
)
BACKLOG_BYTES = Gauge(
    "runroom_http_backlog_bytes", "Bytes of large answers and stream chunks that clients have yet to take."
)
BACKLOG_DROPS = Counter(
    "runroom_http_backlog_drops_total",
    "Connections dropped because the answers not taken came to the limit, and theirs had waited longest.",
)
ARRIVING_BYTES = Gauge(
    "runroom_http_arriving_bytes",
    "Bytes of request bodies, and of heads larger than 4 KiB, that have yet to come whole.",
)
ARRIVING_REFUSED = Counter(
    "runroom_http_arriving_refused_total",
    "Requests refused because the bodies or heads not yet whole came to the limit, and theirs had been coming for"
    " longest.",
)
LOOP_LAG_SECONDS = Histogram(
    "runroom_event_loop_lag_seconds",
    "Seconds by which a timer went off too late, ten times a second: how long everything in the process waits.",
    buckets=_FINE,
)
GC_PAUSE_SECONDS = Histogram(
    "runroom_gc_pause_seconds",
    "Seconds that a garbage collection stopped the process for, by generation: 0, 1, 2 (2 looks at everything).",
    ["generation"],
    buckets=_FINE,
)
POOL_WAIT_SECONDS = Histogram(
    "runroom_db_pool_wait_seconds",
    "Seconds until a database connection was to be had, by pool.",
    ["pool"],
    buckets=_FINE,
)
POOL_IN_USE = Gauge("runroom_db_pool_in_use_connections", "Database connections in use, by pool.", ["pool"])
POOL_LIMIT = Gauge("runroom_db_pool_limit_connections", "Database connections that a pool may have.", ["pool"])
BROKER_CONNECTED = Gauge("runroom_broker_connected", "1 while NATS is connected.")
BROKER_DISCONNECTS = Counter("runroom_broker_disconnects_total", "Times the connection to NATS was lost.")
BROKER_RECONNECTS = Counter("runroom_broker_reconnects_total", "Times it came back.")

# What somebody waits for may be the first.
for _error in AUTH_ERRORS:
    AUTH_REFUSALS.labels(_error)
for _error in BROKEN_ERRORS:
    BROKEN_REQUESTS.labels(_error)


def set_build_info(service: str) -> None:
    BUILD_INFO.labels(service, VERSION, REVISION, platform.python_version()).set(1)
