"""Traces by the OpenTelemetry SDK, sent to a collector by OTLP over HTTP.

Invariant: it is imported by ``shared.tracing`` alone, when traces are wanted. The SDK reads its own variables; a
collector that is away costs spans, never a request.
"""

from collections.abc import Iterable
from contextlib import suppress
from itertools import islice

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    Span,
    SpanContext,
    SpanKind,
    StatusCode,
    TraceFlags,
    set_span_in_context,
)

from shared.build import VERSION
from shared.contracts.tracecontext import is_sampled, is_traceparent, trace_and_span
from shared.tracing import Attributes, Kind

_MOST_LINKS = 127
"""The SDK keeps 128 by default."""
_STOP_MILLISECONDS = 2000
_KINDS: dict[Kind, SpanKind] = {
    "internal": SpanKind.INTERNAL,
    "producer": SpanKind.PRODUCER,
    "consumer": SpanKind.CONSUMER,
}


class OtlpRequestSpan:
    def __init__(self, span: Span) -> None:
        self._span = span
        context = span.get_span_context()
        self.traceparent = f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"

    def end(self, name: str, attributes: Attributes, *, failed: bool) -> None:
        self._span.update_name(name)
        self._span.set_attributes(attributes)
        if failed:
            self._span.set_status(StatusCode.ERROR)
        self._span.end()


class OtlpTracer:
    def __init__(self, service: str) -> None:
        named = Resource({SERVICE_NAME: f"runroom-{service}", "service.version": VERSION})
        # What OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES say goes before ours.
        told = {key: value for key, value in Resource.create().attributes.items() if not _is_unknown(key, value)}
        self._provider = TracerProvider(resource=named.merge(Resource(told)), shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        self._tracer = self._provider.get_tracer("runroom", VERSION)

    def begin_request(self, traceparent: str | None) -> OtlpRequestSpan | None:
        parent = _below(_context_of(traceparent)) if traceparent else Context()
        # Its name and attributes are known at the end.
        span = self._tracer.start_span("request", parent, SpanKind.SERVER)
        return OtlpRequestSpan(span) if span.is_recording() else None

    def record(
        self, name: str, kind: Kind, traceparents: Iterable[str | None], started_ns: int, attributes: Attributes
    ) -> None:
        sampled = (
            _context_of(traceparent) for traceparent in traceparents if traceparent and _is_recorded(traceparent)
        )
        first = next(sampled, None)
        if first is None:
            return
        links = [Link(context) for context in islice(sampled, _MOST_LINKS)]
        self._tracer.start_span(name, _below(first), _KINDS[kind], attributes, links, started_ns).end()

    def stop(self) -> None:
        with suppress(Exception):  # nothing that went on depends on it
            self._provider.force_flush(_STOP_MILLISECONDS)


def _is_unknown(key: str, value: object) -> bool:
    return key == SERVICE_NAME and str(value).startswith("unknown_service")


def _is_recorded(traceparent: str) -> bool:
    # Of stored events: an earlier release did not look at them as closely.
    return is_sampled(traceparent) and is_traceparent(traceparent)


def _context_of(traceparent: str) -> SpanContext:
    trace_id, span_id = trace_and_span(traceparent)
    flags = TraceFlags.SAMPLED if is_sampled(traceparent) else TraceFlags.DEFAULT
    return SpanContext(int(trace_id, 16), int(span_id, 16), is_remote=True, trace_flags=TraceFlags(flags))


def _below(context: SpanContext) -> Context:
    return set_span_in_context(NonRecordingSpan(context), Context())
