"""How long events take to the streams that follow their room live.

Invariant: it is a sample. A hundred events a second are timed in a process however many there are, and of those that
belong to a recorded trace each is a part of one span: a span for each client would be ten thousand.
"""

import time
from datetime import datetime

from services.query.metrics import DELIVERY_SECONDS
from shared import tracing
from shared.contracts.subjects import sampled_trace_in

_PERIOD_SECONDS = 0.01
_RECORDED_AT = b'"recorded_at":"'
_TIME_LENGTH = len("2026-01-01T00:00:00.000000Z")


class Delivery:
    """Events of one room on their way to its viewers: timed from ``recorded_at`` (Unix time), and their traces."""

    __slots__ = ("began_ns", "last_seq", "recorded_at", "traces")

    def __init__(self, began_ns: int) -> None:
        self.began_ns = began_ns
        self.last_seq = 0
        self.recorded_at: float | None = None
        self.traces: list[str] = []


class Deliveries:
    """Of all rooms of a process."""

    def __init__(self) -> None:
        self._due = 0.0

    def take(self, pending: Delivery | None, stream_seq: int, headers: bytes, envelope: bytes) -> Delivery | None:
        """What is pending in a room once this event has arrived, too; 0.2 µs where it is nothing."""
        if pending is None and (now := time.monotonic()) >= self._due:
            self._due = now + _PERIOD_SECONDS
            pending = Delivery(time.time_ns())
            pending.recorded_at = _recorded_at(envelope)
            pending.last_seq = stream_seq
        if tracing.active() is not None and (trace := sampled_trace_in(headers)) is not None:
            pending = pending or Delivery(time.time_ns())
            pending.traces.append(trace)
            pending.last_seq = stream_seq
        return pending

    def finish(self, delivery: Delivery, viewers: int) -> None:
        """The events have been written to this many streams."""
        if delivery.recorded_at is not None:
            DELIVERY_SECONDS.observe(max(0.0, time.time() - delivery.recorded_at))
        if delivery.traces and (tracer := tracing.active()) is not None:
            attributes = {"runroom.streams": viewers}
            tracer.record("deliver", "consumer", delivery.traces, delivery.began_ns, attributes)


def _recorded_at(envelope: bytes) -> float | None:
    start = envelope.find(_RECORDED_AT) + len(_RECORDED_AT)
    try:
        return datetime.fromisoformat(envelope[start : start + _TIME_LENGTH].decode()).timestamp()
    except ValueError:  # nobody but the command service writes here, and yet this is no reason to fail
        return None
