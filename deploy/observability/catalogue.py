"""Every metric there is, as the services declare them: the one list that the page, the tests and the dashboard go by.

Invariant: a metric is documented where it is declared, by its help text, and nowhere else; ``docs/metrics.md`` is made
from that.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from typing import NamedTuple

from prometheus_client import Counter, Gauge, Histogram
from prometheus_client.metrics import MetricWrapperBase

MODULES = {
    "every service": "shared.metrics",
    "command": "services.command.metrics",
    "projector": "services.projector.metrics",
    "query": "services.query.metrics",
}
_TYPES = {Counter: "counter", Gauge: "gauge", Histogram: "histogram"}

PROCESS = {
    "process_cpu_seconds_total": ("counter", "Seconds of CPU time used."),
    "process_max_fds": ("gauge", "File descriptors that the process may open."),
    "process_open_fds": ("gauge", "File descriptors that it has open; each stream is one."),
    "process_resident_memory_bytes": ("gauge", "Resident memory in bytes."),
    "process_start_time_seconds": ("gauge", "Unix time at which the process began."),
    "process_virtual_memory_bytes": ("gauge", "Virtual memory in bytes."),
}
"""What the client library says of the process by itself, on Linux."""


class Metric(NamedTuple):
    """``name`` is the one to ask Prometheus for; a histogram has ``_bucket``, ``_sum`` and ``_count`` behind it."""

    owner: str
    name: str
    type: str
    labels: tuple[str, ...]
    help: str

    @property
    def series(self) -> dict[str, frozenset[str]]:
        """The names of its series, each with its labels."""
        labels = frozenset(self.labels)
        if self.type != "histogram":
            return {self.name: labels}
        return {f"{self.name}_bucket": labels | {"le"}, f"{self.name}_sum": labels, f"{self.name}_count": labels}


def metrics() -> list[Metric]:
    """In the order of their declaration."""
    found = [metric for owner, module in MODULES.items() for metric in _declared(owner, module)]
    found += [Metric("every service", name, kind, (), text) for name, (kind, text) in PROCESS.items()]
    return found


def _declared(owner: str, module: str) -> Iterator[Metric]:
    for value in vars(importlib.import_module(module)).values():
        if isinstance(value, MetricWrapperBase):
            (family,) = value.describe()
            name = f"{family.name}_total" if family.type == "counter" else family.name
            yield Metric(owner, name, family.type, tuple(value._labelnames), family.documentation)  # noqa: SLF001
