"""The Grafana dashboard, from one line for each graph: the JSON is what Grafana wants, and nobody reads it.

Invariant: it asks for documented metrics and recorded series alone; the tests read every question.
"""

from __future__ import annotations

import json
from typing import Any, NamedTuple

_WIDTH = 8
_HEIGHT = 7
_DATASOURCE = {"type": "prometheus", "uid": "runroom"}


class Graph(NamedTuple):
    """``queries`` are (PromQL, legend); ``text`` says what is to be seen."""

    title: str
    unit: str
    text: str
    queries: tuple[tuple[str, str], ...]


def _quantiles(name: str, by: str = "", where: str = "") -> tuple[tuple[str, str], ...]:
    legend = f" {{{{{by}}}}}" if by else ""
    group = f"{by}, le" if by else "le"
    return tuple(
        (
            f"histogram_quantile({q}, sum by ({group}) (rate({name}_bucket{where}[$__rate_interval])))",
            f"p{q * 100:g}{legend}",
        )
        for q in (0.5, 0.99)
    )


ROWS: dict[str, tuple[Graph, ...]] = {
    "At a glance": (
        Graph(
            "Commands",
            "cps",
            "Answered, by outcome. Anything but accepted, replayed and 4xx codes is trouble.",
            (("outcome:runroom_command_commands:rate1m", "{{outcome}}"),),
        ),
        Graph(
            "From the commit to streams",
            "s",
            "How late live streams are.",
            _quantiles("runroom_query_delivery_seconds"),
        ),
        Graph(
            "Behind the event store",
            "s",
            "Age of the oldest event that is not yet published, or not yet applied.",
            (
                ("runroom_relay_unpublished_seconds:max", "relay"),
                ("projection:runroom_projector_lag_seconds:max", "{{projection}}"),
            ),
        ),
        Graph(
            "Answers",
            "reqps",
            "By service and class of status.",
            (("job_status:runroom_http_requests:rate5m", "{{job}} {{status}}"),),
        ),
        Graph(
            "Callers not let in",
            "reqps",
            "By service and error; the log says why.",
            (("sum by (job, error) (rate(runroom_auth_refusals_total[$__rate_interval]))", "{{job}} {{error}}"),),
        ),
        Graph(
            "Requests that never came whole",
            "reqps",
            "By service and error: no HTTP, too large, or too slow.",
            (
                (
                    "sum by (job, error) (rate(runroom_http_broken_requests_total[$__rate_interval]))",
                    "{{job}} {{error}}",
                ),
            ),
        ),
        Graph(
            "Slowest hundredth of answers",
            "s",
            "By route; streams are not among them.",
            (("route:runroom_http_request_seconds:p99_rate5m", "{{route}}"),),
        ),
        Graph(
            "Streams open",
            "short",
            "By process, and how many each takes.",
            (("runroom_query_streams_open", "{{instance}}"), ("runroom_query_streams_limit", "limit {{instance}}")),
        ),
    ),
    "Commands": (
        Graph("Commit", "s", "A batch, from its begin to its commit.", _quantiles("runroom_command_commit_seconds")),
        Graph(
            "Commands in a batch",
            "short",
            "Grows under load; that is what group commit is for.",
            (
                (
                    "sum(rate(runroom_command_batch_commands_sum[$__rate_interval]))"
                    " / sum(rate(runroom_command_batch_commands_count[$__rate_interval]))",
                    "mean",
                ),
            ),
        ),
        Graph(
            "Waiting for a transaction",
            "short",
            "And batches tried again after the event store failed.",
            (
                ("sum by (instance) (runroom_command_queue_commands)", "queue {{instance}}"),
                ("sum(rate(runroom_command_store_retries_total[$__rate_interval]))", "retries/s"),
            ),
        ),
    ),
    "Relay": (
        Graph(
            "Unpublished",
            "short",
            "Committed and not yet on the stream; rooms that stand still at an event that cannot be published.",
            (
                ("max(runroom_relay_unpublished_events)", "events"),
                ("max(runroom_relay_unpublished_rooms)", "rooms"),
                ("max(runroom_relay_oversize_rooms)", "oversize rooms"),
            ),
        ),
        Graph(
            "Published",
            "cps",
            "Events, and publishes.",
            (
                ("sum(rate(runroom_relay_published_total[$__rate_interval]))", "events"),
                ("sum(rate(runroom_relay_batch_events_count[$__rate_interval]))", "publishes"),
            ),
        ),
        Graph("Publish", "s", "To the stream's acknowledgement.", _quantiles("runroom_relay_publish_seconds")),
        Graph(
            "Leader",
            "short",
            "Exactly one of them is 1.",
            (("runroom_relay_leader", "{{instance}}"),),
        ),
        Graph(
            "Reconciliations and fences",
            "short",
            "In five minutes. A fence at a change of leader is as it should be.",
            (
                ("sum by (cause) (increase(runroom_relay_reconciliations_total[5m]))", "{{cause}}"),
                ("sum(increase(runroom_relay_fenced_total[5m]))", "fence rejections"),
            ),
        ),
    ),
    "Projections": (
        Graph(
            "Lag in events",
            "short",
            "Committed and yet to be applied.",
            (("projection:runroom_projector_lag_events:sum", "{{projection}}"),),
        ),
        Graph(
            "Lag by partition",
            "s",
            "The five that are furthest behind.",
            (
                (
                    "topk(5, max by (projection, partition) (runroom_projector_lag_seconds))",
                    "{{projection}} {{partition}}",
                ),
            ),
        ),
        Graph(
            "Applied",
            "cps",
            "And what came again, was read to fill a hole, or was no event.",
            (
                ("sum by (projection) (rate(runroom_projector_events_total[$__rate_interval]))", "{{projection}}"),
                ("sum(rate(runroom_projector_repeated_total[$__rate_interval]))", "repeated"),
                ("sum(rate(runroom_projector_filled_total[$__rate_interval]))", "filled"),
                ("sum(rate(runroom_projector_strays_total[$__rate_interval]))", "strays"),
            ),
        ),
        Graph(
            "Applying a batch",
            "s",
            "From the fold to the commit.",
            _quantiles("runroom_projector_apply_seconds", "projection"),
        ),
        Graph(
            "Parked and behind",
            "short",
            "Events that cannot be applied, rooms to be filled from the event store, and those that it cannot fill.",
            (
                ("sum by (projection) (runroom_projector_parked_events)", "parked {{projection}}"),
                ("sum by (projection) (runroom_projector_behind_rooms)", "behind {{projection}}"),
                ("sum by (projection) (runroom_projector_holed_rooms)", "holed {{projection}}"),
            ),
        ),
        Graph(
            "Partitions held",
            "short",
            "32 of each projection, all workers together; those that nobody holds; and those that were taken over.",
            (
                ("sum by (projection, instance) (runroom_projector_leases)", "{{projection}} {{instance}}"),
                ("max by (projection) (runroom_projector_unheld_partitions)", "nobody {{projection}}"),
                ("sum(increase(runroom_projector_leases_lost_total[5m]))", "lost in 5 min"),
            ),
        ),
    ),
    "Streams": (
        Graph(
            "Frames",
            "cps",
            "Sent, by process.",
            (("sum by (instance) (rate(runroom_query_frames_sent_total[$__rate_interval]))", "{{instance}}"),),
        ),
        Graph(
            "Viewers in trouble",
            "short",
            "In five minutes: behind and sent to history, reset, turned away, dropped.",
            (
                ("sum(increase(runroom_query_catch_ups_total[5m]))", "catch-ups"),
                ("sum by (reason) (increase(runroom_query_resets_total[5m]))", "reset: {{reason}}"),
                ("sum by (limit) (increase(runroom_query_streams_busy_total[5m]))", "busy: {{limit}}"),
                ("sum(increase(runroom_query_streams_stalled_total[5m]))", "stalled"),
            ),
        ),
        Graph(
            "History and holes",
            "cps",
            "Pages read, and events that did not come live.",
            (
                ("sum by (source) (rate(runroom_query_history_reads_total[$__rate_interval]))", "from {{source}}"),
                ("sum(rate(runroom_query_holes_filled_total[$__rate_interval]))", "holes"),
            ),
        ),
        Graph(
            "Reading one's own writes",
            "cps",
            "Requests that waited for min_seq, and those that waited in vain.",
            (
                ("sum(rate(runroom_query_min_seq_waits_total[$__rate_interval]))", "waited"),
                ("sum(rate(runroom_query_min_seq_timeouts_total[$__rate_interval]))", "in vain"),
            ),
        ),
        Graph("Rooms watched", "short", "By process.", (("runroom_query_rooms_watched", "{{instance}}"),)),
    ),
    "Processes": (
        Graph(
            "Event loop",
            "s",
            "How late a timer is, the slowest hundredth.",
            (("instance:runroom_event_loop_lag_seconds:p99_rate5m", "{{job}} {{instance}}"),),
        ),
        Graph(
            "Garbage collections",
            "percentunit",
            "The share of time that they take, by generation.",
            (
                (
                    "sum by (job, generation) (rate(runroom_gc_pause_seconds_sum[$__rate_interval]))",
                    "{{job}} {{generation}}",
                ),
            ),
        ),
        Graph(
            "Memory",
            "bytes",
            "Resident.",
            (('process_resident_memory_bytes{job=~"runroom-.*"}', "{{job}} {{instance}}"),),
        ),
        Graph(
            "CPU",
            "percentunit",
            "One is a whole core, which is all a process can use.",
            (('rate(process_cpu_seconds_total{job=~"runroom-.*"}[$__rate_interval])', "{{job}} {{instance}}"),),
        ),
        Graph(
            "Waiting for a connection to PostgreSQL",
            "s",
            "By pool.",
            _quantiles("runroom_db_pool_wait_seconds", "pool"),
        ),
        Graph(
            "NATS",
            "short",
            "1 is connected; and connections lost in five minutes.",
            (
                ("runroom_broker_connected", "{{job}} {{instance}}"),
                ("sum by (job) (increase(runroom_broker_disconnects_total[5m]))", "lost {{job}}"),
            ),
        ),
        Graph(
            "Builds",
            "short",
            "Processes of each.",
            (("count by (service, version, revision) (runroom_build_info)", "{{service}} {{version}} {{revision}}"),),
        ),
    ),
}


def dashboard() -> str:
    """The dashboard as Grafana reads it from a file."""
    panels: list[dict[str, Any]] = []
    y = 0
    for title, graphs in ROWS.items():
        panels.append(_row(title, len(panels) + 1, y))
        y += 1
        for number, graph in enumerate(graphs):
            place = {"x": number % 3 * _WIDTH, "y": y + number // 3 * _HEIGHT, "w": _WIDTH, "h": _HEIGHT}
            panels.append(_panel(graph, len(panels) + 1, place))
        y += (len(graphs) + 2) // 3 * _HEIGHT
    whole = {
        "uid": "runroom",
        "title": "Runroom",
        "tags": ["runroom"],
        "editable": False,
        "refresh": "10s",
        "schemaVersion": 39,
        "time": {"from": "now-1h", "to": "now"},
        "timezone": "utc",
        "panels": panels,
    }
    return json.dumps(whole, indent=1, ensure_ascii=False) + "\n"


def _row(title: str, number: int, y: int) -> dict[str, Any]:
    return {
        "id": number,
        "type": "row",
        "title": title,
        "collapsed": False,
        "panels": [],
        "gridPos": {"x": 0, "y": y, "w": 24, "h": 1},
    }


def _panel(graph: Graph, number: int, place: dict[str, int]) -> dict[str, Any]:
    return {
        "id": number,
        "type": "timeseries",
        "title": graph.title,
        "description": graph.text,
        "datasource": _DATASOURCE,
        "gridPos": place,
        "fieldConfig": {"defaults": {"unit": graph.unit, "min": 0}, "overrides": []},
        "options": {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi"}},
        "targets": [
            {"refId": chr(ord("A") + index), "datasource": _DATASOURCE, "expr": expr, "legendFormat": legend}
            for index, (expr, legend) in enumerate(graph.queries)
        ],
    }
