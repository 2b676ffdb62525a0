"""Traces, when somebody wants them.

Invariant: without an OTLP endpoint in the environment nothing of OpenTelemetry is imported, ``active()`` is None, and
that is all that a trace costs. With one, only what is sampled costs more than a few microseconds.

The variables are OpenTelemetry's own: ``OTEL_EXPORTER_OTLP_ENDPOINT`` or ``OTEL_EXPORTER_OTLP_TRACES_ENDPOINT``
switches traces on, ``OTEL_TRACES_SAMPLER`` and ``OTEL_TRACES_SAMPLER_ARG`` say how many, ``OTEL_SERVICE_NAME`` and
``OTEL_RESOURCE_ATTRIBUTES`` what they are called; ``OTEL_SDK_DISABLED=true`` and ``OTEL_TRACES_EXPORTER=none`` switch
them off again.
"""

from collections.abc import Iterable, Mapping
from typing import Literal, Protocol
from urllib.parse import urlsplit

from shared.settings import SettingsError

_ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")

Attributes = Mapping[str, str | int | float]
Kind = Literal["internal", "producer", "consumer"]


class RequestSpan(Protocol):
    """The span of an HTTP request that is recorded. ``traceparent`` is what belongs to it."""

    @property
    def traceparent(self) -> str: ...

    def end(self, name: str, attributes: Attributes, *, failed: bool) -> None: ...


class Tracer(Protocol):
    def begin_request(self, traceparent: str | None) -> RequestSpan | None:
        """A span below the caller's, or of a new trace; None if it is not sampled."""
        ...

    def record(
        self, name: str, kind: Kind, traceparents: Iterable[str | None], started_ns: int, attributes: Attributes
    ) -> None:
        """Work that ends now and was done for all of these at once; it began at ``started_ns`` (``time.time_ns``).

        The span is part of the first sampled trace, and linked to the others. Without a sampled one there is none.
        """
        ...

    def stop(self) -> None:
        """Sends what is left, for two seconds at the most."""
        ...


_tracer: Tracer | None = None


def active() -> Tracer | None:
    """Where to record; None when traces are off."""
    return _tracer


def is_wanted(variables: Mapping[str, str]) -> bool:
    """Whether the environment asks for traces."""
    return (
        any(variables.get(name, "").strip() for name in _ENDPOINTS)
        and variables.get("OTEL_SDK_DISABLED", "").strip().lower() != "true"
        and variables.get("OTEL_TRACES_EXPORTER", "otlp").strip().lower() in ("otlp", "")
    )


def tracing_faults(variables: Mapping[str, str]) -> list[str]:
    """What is wrong with where traces are to go; nothing where nobody wants any."""
    return [
        f"{name} is not a URL with http:// or https:// and a host"
        for name in _ENDPOINTS
        if is_wanted(variables) and not _is_url(variables.get(name, "").strip())
    ]


def _is_url(endpoint: str) -> bool:
    try:
        parts = urlsplit(endpoint)
        return not endpoint or (parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0)
    except ValueError:
        return False


def start_tracing(service: str, variables: Mapping[str, str]) -> Tracer | None:
    """Switches traces on if the environment asks for them. Raises ``SettingsError`` when they cannot be had."""
    global _tracer  # a process traces or it does not
    if not is_wanted(variables):
        return None
    if faults := tracing_faults(variables):
        raise SettingsError("\n".join(faults))
    try:
        from shared.otel import OtlpTracer  # half a second and 20 MiB, for those who want it
    except ImportError as error:
        raise SettingsError(
            f"{_ENDPOINTS[0]} is set, and {error.name} is not installed: install the extra `tracing`"
        ) from error
    _tracer = OtlpTracer(service)
    return _tracer
