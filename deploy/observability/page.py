"""``docs/metrics.md``, made from the metrics as they are declared."""

from __future__ import annotations

from deploy.observability.catalogue import MODULES, Metric, metrics

_HEAD = """\
# Metrics

Each service answers `GET /metrics` on its own port in Prometheus text format. This page is made from the declarations
in `shared/metrics.py` and `services/*/metrics.py` by `python -m deploy.observability`; the tests compare it with them
and with what a running stack says.

`/metrics`, `/healthz` and `/readyz` need no authentication and are meant for the inner network alone: a proxy in front
passes `/v1/` on and nothing else. Metrics name no workspace, room or run; `/readyz` of a projector names the rooms
whose events are parked.

Every label has few values, whatever clients send: `route` is a method and a path template (`none` where nothing is at
the path), `status` a class of status codes, `partition` one of 32, `projection` a projection and, while it is rebuilt,
its versions. Times are in seconds. What each alert means is in [alerts.md](alerts.md); dashboard and rules are in
`deploy/observability/`.
"""


def metrics_page() -> str:
    every = metrics()
    sections = [_HEAD]
    for owner in MODULES:
        rows = [_row(metric) for metric in every if metric.owner == owner]
        title = owner[0].upper() + owner[1:]
        sections.append("\n".join([f"## {title}", "", "| name | type | labels | |", "|---|---|---|---|", *rows, ""]))
    return "\n".join(sections)


def _row(metric: Metric) -> str:
    labels = ", ".join(f"`{label}`" for label in metric.labels)
    return f"| `{metric.name}` | {metric.type} | {labels} | {metric.help} |"
