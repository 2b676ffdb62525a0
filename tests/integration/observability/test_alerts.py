"""Every alert goes off when what it is for has come about, and keeps still when all is well or it has not lasted.

By Prometheus's own ``promtool``, on machines that have it.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

RULES = Path(__file__).parents[3] / "deploy" / "observability" / "rules"
MINUTES = 80


class Series(NamedTuple):
    """A metric over the time of the test: ``start`` and what is added each minute."""

    name: str
    start: float
    step: float = 0

    @property
    def values(self) -> str:
        return f"{self.start}+{self.step}x{MINUTES}"


class Case(NamedTuple):
    """``alarming`` makes the alert go off within that time; ``well`` does not, though it is close."""

    alarming: list[Series]
    well: list[Series]


def build(service: str, revision: str = "a", instance: str = "1") -> Series:
    labels = f'service="{service}",version="1",revision="{revision}",python="3.13",instance="{instance}"'
    return Series(f"runroom_build_info{{{labels}}}", 1)


def answers(status: str, a_minute: float) -> Series:
    labels = f'job="runroom-command",instance="1",route="POST /v1/runs",status="{status}"'
    return Series(f"runroom_http_request_seconds_count{{{labels}}}", 0, a_minute)


def spread(name: str, bounds: Mapping[str, float], labels: str = "") -> list[Series]:
    """A histogram: by upper bound how many a minute are within it."""
    given = f",{labels}" if labels else ""
    return [
        Series(f'{name}_bucket{{instance="1",le="{bound}"{given}}}', 0, a_minute) for bound, a_minute in bounds.items()
    ]


def at(value: float, name: str, labels: str = "") -> list[Series]:
    given = f",{labels}" if labels else ""
    return [Series(f'{name}{{job="runroom-query",instance="1"{given}}}', value)]


def rising(a_minute: float, name: str, labels: str = "") -> list[Series]:
    return [series._replace(start=0, step=a_minute) for series in at(0, name, labels)]


def memory(of_the_bound: float) -> list[Series]:
    bounds = {"command": 370e6, "query": 430e6, "projector": 300e6}
    return [
        Series(f'process_resident_memory_bytes{{job="runroom-{service}",instance="1"}}', of_the_bound * bound)
        for service, bound in bounds.items()
    ]


def unheld(instance: str = "1", **partitions: int) -> list[Series]:
    """What one projector says of each version that is read."""
    return [
        Series(f'runroom_projector_unheld_partitions{{job="j",instance="{instance}",projection="{name}"}}', number)
        for name, number in partitions.items()
    ]


SERVICES = ("command", "query", "projector")
SLOW = {"0.25": 0, "0.5": 0, "1": 0, "2.5": 60, "+Inf": 60}
QUICK = {"0.01": 59.9, "0.25": 60, "0.5": 60, "1": 60, "2.5": 60, "+Inf": 60}

CASES = {
    "RunroomServiceDown": Case(at(0, "up"), [*at(1, "up"), Series('up{job="somebody-else"}', 0)]),
    "RunroomServiceMissing": Case([build("command"), build("query")], [build(service) for service in SERVICES]),
    "RunroomErrors": Case([answers("2xx", 98), answers("5xx", 2)], [answers("2xx", 1000), answers("5xx", 9)]),
    "RunroomCommandsRefused": Case(
        rising(7, "runroom_command_commands_total", 'outcome="overloaded"'),
        [
            *rising(5, "runroom_command_commands_total", 'outcome="store_unavailable"'),
            *rising(600, "runroom_command_commands_total", 'outcome="accepted"'),
        ],
    ),
    "RunroomCallersRefused": Case(
        rising(66, "runroom_auth_refusals_total", 'error="invalid_token"'),
        [
            *rising(54, "runroom_auth_refusals_total", 'error="missing_token"'),
            *rising(54, "runroom_auth_refusals_total", 'error="insufficient_scope"'),
            *rising(600, "runroom_auth_refusals_total", 'error="keys_unavailable"'),
        ],
    ),
    "RunroomTokenKeysUnknown": Case(
        rising(1, "runroom_auth_refusals_total", 'error="keys_unavailable"'),
        [
            *at(3, "runroom_auth_refusals_total", 'error="keys_unavailable"'),
            *rising(600, "runroom_auth_refusals_total", 'error="invalid_token"'),
        ],
    ),
    "RunroomCommitSlow": Case(
        spread("runroom_command_commit_seconds", SLOW), spread("runroom_command_commit_seconds", QUICK)
    ),
    "RunroomRelayBehind": Case(
        at(31, "runroom_relay_unpublished_seconds"), at(29, "runroom_relay_unpublished_seconds")
    ),
    "RunroomRelayLeaderless": Case(
        at(0, "runroom_relay_leader"),
        [Series('runroom_relay_leader{instance="1"}', 0), Series('runroom_relay_leader{instance="2"}', 1)],
    ),
    "RunroomRelayFenced": Case(rising(0.3, "runroom_relay_fenced_total"), rising(0.15, "runroom_relay_fenced_total")),
    "RunroomStreamIsNotOfThisStore": Case(at(1, "runroom_relay_stranger_rooms"), at(0, "runroom_relay_stranger_rooms")),
    "RunroomEventTooLarge": Case(at(1, "runroom_relay_oversize_rooms"), at(0, "runroom_relay_oversize_rooms")),
    "RunroomProjectionBehind": Case(
        at(61, "runroom_projector_lag_seconds", 'projection="runs"'),
        at(59, "runroom_projector_lag_seconds", 'projection="runs"'),
    ),
    "RunroomPartitionsUnowned": Case(unheld(runs=1, room_feed=0), unheld(runs=0, room_feed=0)),
    "RunroomEventsParked": Case(
        at(1, "runroom_projector_parked_events", 'projection="runs"'),
        at(0, "runroom_projector_parked_events", 'projection="runs"'),
    ),
    "RunroomEventsMissing": Case(
        at(1, "runroom_projector_holed_rooms", 'projection="runs"'),
        at(0, "runroom_projector_holed_rooms", 'projection="runs"'),
    ),
    "RunroomStreamsNearLimit": Case(
        [*at(81, "runroom_query_streams_open"), *at(100, "runroom_query_streams_limit")],
        [*at(79, "runroom_query_streams_open"), *at(100, "runroom_query_streams_limit")],
    ),
    "RunroomStreamsTurnedAway": Case(
        rising(1, "runroom_query_streams_busy_total", 'limit="room"'),
        rising(60, "runroom_query_streams_busy_total", 'limit="principal"'),
    ),
    "RunroomEventsMisplaced": Case(rising(1, "runroom_query_misplaced_total"), at(3, "runroom_query_misplaced_total")),
    "RunroomHistoryTrimmed": Case(
        rising(1, "runroom_query_resets_total", 'reason="history_trimmed"'),
        rising(60, "runroom_query_resets_total", 'reason="cursor_ahead"'),
    ),
    "RunroomDeliverySlow": Case(
        spread("runroom_query_delivery_seconds", SLOW), spread("runroom_query_delivery_seconds", QUICK)
    ),
    "RunroomEventLoopLate": Case(
        spread("runroom_event_loop_lag_seconds", SLOW), spread("runroom_event_loop_lag_seconds", QUICK)
    ),
    "RunroomPoolExhausted": Case(
        spread("runroom_db_pool_wait_seconds", SLOW, 'pool="reads"'),
        spread("runroom_db_pool_wait_seconds", QUICK, 'pool="reads"'),
    ),
    "RunroomBrokerDisconnected": Case(at(0, "runroom_broker_connected"), at(1, "runroom_broker_connected")),
    "RunroomBrokerFlapping": Case(
        rising(0.3, "runroom_broker_disconnects_total"), rising(0.15, "runroom_broker_disconnects_total")
    ),
    "RunroomMemoryHigh": Case(memory(1.01), [*memory(0.99), Series('process_resident_memory_bytes{job="other"}', 8e9)]),
    "RunroomDescriptorsNearLimit": Case(
        [*at(81, "process_open_fds"), *at(100, "process_max_fds")],
        [*at(79, "process_open_fds"), *at(100, "process_max_fds")],
    ),
    "RunroomMixedVersions": Case(
        [build("query", "a"), build("query", "b")],
        [build("query", "a", "1"), build("query", "a", "2"), build("command", "b")],
    ),
}


ALERTS: dict[str, dict[str, Any]] = {
    rule["alert"]: rule
    for group in yaml.safe_load((RULES / "alerts.yml").read_text())["groups"]
    for rule in group["rules"]
}


def lasts(alert: str) -> int:
    """Minutes that it has to be so before the alert goes off."""
    said: str = ALERTS[alert].get("for", "0m")
    return int(said[:-1]) * {"m": 1, "h": 60}[said[-1]]


def case(alert: str, series: Iterable[Series], minute: int, *, goes_off: bool) -> dict[str, Any]:
    firing = f'count(ALERTS{{alertname="{alert}",alertstate="firing"}}) > bool 0'
    return {
        "interval": "1m",
        "input_series": [{"series": one.name, "values": one.values} for one in series],
        "promql_expr_test": [
            {
                "expr": firing,
                "eval_time": f"{minute}m",
                "exp_samples": [{"labels": "{}", "value": 1}] if goes_off else [],
            }
        ],
    }


def test_every_alert_has_a_case() -> None:
    assert set(CASES) == set(ALERTS)


@pytest.mark.skipif(shutil.which("promtool") is None, reason="there is no promtool here (Debian's package prometheus)")
def test_every_alert_goes_off_when_it_should_and_only_then(tmp_path: Path) -> None:
    cases = {
        alert: [
            case(alert, alarming, MINUTES - 1, goes_off=True),
            case(alert, well, MINUTES - 1, goes_off=False),
            # Not yet: what has only just begun.
            *([case(alert, alarming, lasts(alert) // 2, goes_off=False)] if lasts(alert) > 1 else []),
        ]
        for alert, (alarming, well) in CASES.items()
    }
    cases["RunroomPartitionsUnowned"] += [
        case("RunroomPartitionsUnowned", said, MINUTES - 1, goes_off=goes_off)
        for said, goes_off in (
            ([*unheld(runs=0, room_feed=0), *unheld("2", runs=32, room_feed=0)], True),
            # No projector can ask the database; there is none, which is another alert's.
            ([build("projector"), *at(0, "runroom_projector_leases")], True),
            ([build("projector")], True),
            ([build("command")], False),
            # Of a release that does not count them.
            ([build("projector"), *at(32, "runroom_projector_leases")], False),
        )
    ]
    files = [file(tmp_path, alert, tests) for alert, tests in cases.items()]
    for arguments in (["check", "rules", *RULES.glob("*.yml")], ["test", "rules", *files]):
        ran = subprocess.run(["promtool", *arguments], capture_output=True, text=True, check=False)
        assert ran.returncode == 0, ran.stdout + ran.stderr


def file(folder: Path, alert: str, tests: list[dict[str, Any]]) -> Path:
    """The cases of one alert, for which no other is evaluated."""
    rules, cases = folder / f"{alert}.rules.json", folder / f"{alert}.json"  # which YAML is a superset of
    rules.write_text(json.dumps({"groups": [{"name": alert, "rules": [ALERTS[alert]]}]}))
    given = [str(RULES / "recording.yml"), str(rules)]
    cases.write_text(json.dumps({"rule_files": given, "evaluation_interval": "1m", "tests": tests}))
    return cases
