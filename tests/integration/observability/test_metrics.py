"""Every documented metric is there, under the names and labels that are documented, and moves as it should."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

import asyncpg
import pytest

from shared.messaging.access import NatsAccess
from shared.messaging.broker import Broker
from tests.integration.observability.stack import (
    Series,
    Watched,
    documented,
    eventually,
    metrics_of,
)
from tests.support.servers import REPOSITORY

DOCUMENTED = documented((REPOSITORY / "docs" / "metrics.md").read_text())
LABELS = {
    *("service", "version", "revision", "python", "route", "status", "generation", "pool", "outcome", "cause", "error"),
    *("projection", "partition", "reason", "limit", "source"),
}
"""Each has few values, whatever clients send."""


@pytest.fixture
def moved(watched: Watched) -> Callable[..., Callable[[], float]]:
    """How far a series has come since it was asked for: ``moved("query", name, label="value")()``."""

    def since_now(service: str, name: str, **labels: str) -> Callable[[], float]:
        before = metrics_of(watched.clients[service]).value(name, **labels)
        return lambda: metrics_of(watched.clients[service]).value(name, **labels) - before

    return since_now


Moved = Callable[..., Callable[[], float]]


@pytest.mark.parametrize("service", ["command", "query", "projector"])
def test_what_is_documented_is_there_and_nothing_else(watched: Watched, service: str) -> None:
    said = metrics_of(watched.clients[service]).types
    expected = {name: kind for name, (owner, kind, _) in DOCUMENTED.items() if owner in ("every service", service)}
    assert said == expected


def test_labels_are_those_documented_and_have_few_values(watched: Watched) -> None:
    watched.create("labels")
    eventually(lambda: metrics_of(watched.projector).value("runroom_projector_events_total") > 0)
    seen: set[str] = set()
    for client in watched.clients.values():
        for name, sets in metrics_of(client).labels.items():
            family = name if name in DOCUMENTED else name.rpartition("_")[0]
            for labels in sets:
                assert labels - {"le"} == DOCUMENTED[family][2], name
                seen |= labels
    assert seen - {"le"} <= LABELS
    assert {"outcome", "projection", "route", "pool"} <= seen


def test_every_documented_label_is_one_with_few_values() -> None:
    assert {label for _, _, labels in DOCUMENTED.values() for label in labels} == LABELS


def test_commands_are_counted_by_outcome(watched: Watched, moved: Moved) -> None:
    def outcome(name: str) -> Callable[[], float]:
        return moved("command", "runroom_command_commands_total", outcome=name)

    accepted, replayed, refused = outcome("accepted"), outcome("replayed"), outcome("run_not_running")
    batches, commits = (
        moved("command", f"runroom_command_{name}_count") for name in ("batch_commands", "commit_seconds")
    )
    commands = moved("command", "runroom_command_batch_commands_sum")
    key = {"Idempotency-Key": uuid4().hex}
    body = {"room_id": "outcomes"}
    first, again = (watched.command.post("/v1/runs", json=body, headers=key).json()["run_id"] for _ in range(2))
    assert first == again
    assert watched.command.post(f"/v1/runs/{first}/steps", json={"kind": "tool"}).status_code == 409
    assert watched.command.post("/v1/runs", json={}).status_code == 400
    assert (accepted(), replayed(), refused()) == (1, 1, 1)
    assert (batches(), commits(), commands()) == (3, 3, 3)


def test_answers_are_counted_by_route_and_status(watched: Watched, moved: Moved) -> None:
    def counted(service: str, route: str, status: str) -> Callable[[], float]:
        return moved(service, "runroom_http_request_seconds_count", route=route, status=status)

    created, malformed = (counted("command", "POST /v1/runs", status) for status in ("2xx", "4xx"))
    missing, nowhere = (counted("query", route, "4xx") for route in ("GET /v1/runs/{run_id}", "GET none"))
    watched.create("routes")
    watched.command.post("/v1/runs", json={})
    for number in range(3):
        watched.query.get(f"/v1/runs/run_{number}")
        watched.query.get(f"/nowhere/{number}")
    assert (created(), malformed(), missing(), nowhere()) == (1, 1, 3, 3)


def test_the_relay_is_measured(watched: Watched, moved: Moved) -> None:
    published, batches, times = (
        moved("command", f"runroom_relay_{name}")
        for name in ("published_total", "batch_events_sum", "publish_seconds_count")
    )
    watched.create("relayed")
    eventually(lambda: published() == 1)
    assert (batches(), times()) == (1, 1)
    assert metrics_of(watched.command).value("runroom_relay_leader") == 1


async def test_a_publisher_that_is_none_is_fenced_off_and_its_message_a_stray(watched: Watched, moved: Moved) -> None:
    fenced = moved("command", "runroom_relay_fenced_total")
    reconciled = moved("command", "runroom_relay_reconciliations_total", cause="fenced")
    strays = moved("projector", "runroom_projector_strays_total", projection="runs")
    relay = watched.stack.addresses("command")
    relay = watched.stack.addresses("command")
    access = NatsAccess(nkey_seed_file=Path(relay["NATS_NKEY_SEED_FILE"]))
    async with Broker(relay["NATS_URL"], name="runroom-command", access=access) as broker:
        broker.start()
        await broker.wait_connected()
        await broker.request("rooms.0.somebody.else", b"not ours")
    watched.create("fenced")
    eventually(lambda: fenced() == 1 and reconciled() == 1 and strays() == 1)


async def test_an_event_that_cannot_be_applied_shows(watched: Watched, moved: Moved) -> None:
    parkings = moved("projector", "runroom_projector_parkings_total", projection="runs")
    store = await asyncpg.connect(watched.stack.addresses("command")["EVENT_STORE_DSN"])
    await store.execute("insert into rooms (workspace_id, room_id, last_seq) values ('ws_dev', 'poisoned', 1)")
    await store.execute(
        "insert into events (workspace_id, room_id, stream_seq, event_id, run_id, event_type, event_version,"
        " recorded_at, envelope) values ('ws_dev', 'poisoned', 1, gen_random_uuid(), 'run_x', 'run.created', 1,"
        " now(), 'no json')"
    )
    await store.close()

    def parked(projection: str) -> float:
        return metrics_of(watched.projector).value("runroom_projector_parked_events", projection=projection)

    eventually(lambda: parked("runs") == 1)
    assert parkings() >= 1
    assert parked("room_feed") == 0
    assert metrics_of(watched.projector).value("runroom_projector_behind_rooms", projection="runs") == 1


def test_projections_are_measured_per_partition(watched: Watched, moved: Moved) -> None:
    applied = moved("projector", "runroom_projector_events_total", projection="runs")
    batches, times = (
        moved("projector", f"runroom_projector_{name}_count", projection="runs")
        for name in ("batch_events", "apply_seconds")
    )
    watched.create("projected")
    eventually(lambda: applied() == 1)
    assert batches() >= 1
    assert times() >= 1
    said = metrics_of(watched.projector)
    assert said.value("runroom_projector_leases", projection="runs") == 32
    # Where nothing is held the gauge is not there; all partitions are this worker's.
    eventually(lambda: _partitions(metrics_of(watched.projector)) == 64)


def _partitions(said: Series) -> int:
    return len([1 for labels, _ in said._values.get("runroom_projector_lag_events", []) if labels])


def test_streams_and_what_is_delivered_are_measured(watched: Watched, moved: Moved) -> None:
    frames, delivered = (
        moved("query", f"runroom_query_{name}") for name in ("frames_sent_total", "delivery_seconds_count")
    )
    seconds = moved("query", "runroom_query_delivery_seconds_sum")
    with watched.following("delivered") as follower:
        said = metrics_of(watched.query)
        assert (said.value("runroom_query_streams_open"), said.value("runroom_query_rooms_watched")) == (1, 1)
        assert said.value("runroom_query_streams_limit") > 0
        watched.create("delivered")
        follower.until("data: {")
        eventually(lambda: frames() == 1 and delivered() == 1)
        assert 0 <= seconds() < 60
    eventually(lambda: metrics_of(watched.query).value("runroom_query_streams_open") == 0)


def test_a_cursor_that_is_reset_is_counted_by_its_reason(watched: Watched, moved: Moved) -> None:
    resets = moved("query", "runroom_query_resets_total", reason="cursor_ahead")
    with watched.query.stream("GET", "/v1/streams/rooms/reset?from_seq=1000") as response:
        next(line for line in response.iter_lines() if line == "event: reset")
    assert resets() == 1


def test_reads_wait_for_a_connection_of_their_pool(watched: Watched, moved: Moved) -> None:
    waits = moved("query", "runroom_db_pool_wait_seconds_count", pool="reads")
    watched.query.get("/v1/runs/run_none")
    assert waits() == 1
    said = metrics_of(watched.query)
    assert said.value("runroom_db_pool_limit_connections", pool="reads") == 10
    assert said.value("runroom_db_pool_in_use_connections", pool="reads") == 0


@pytest.mark.parametrize("service", ["command", "query", "projector"])
def test_the_process_is_measured(watched: Watched, moved: Moved, service: str) -> None:
    ticks = moved(service, "runroom_event_loop_lag_seconds_count")
    eventually(lambda: ticks() > 2)
    said = metrics_of(watched.clients[service])
    assert said.value("runroom_build_info", service=service) == 1
    assert said.value("process_resident_memory_bytes") > 10_000_000
    # Each collects once when it starts.
    assert said.value("runroom_gc_pause_seconds_count", generation="2") >= 1
    assert said.value("runroom_gc_pause_seconds_sum", generation="2") > 0


def test_an_outage_of_nats_shows_and_what_waits_for_it(watched: Watched, moved: Moved) -> None:
    server = watched.stack.nats
    assert server is not None
    reconnects = [moved(service, "runroom_broker_reconnects_total") for service in watched.clients]
    lost = [moved(service, "runroom_broker_disconnects_total") for service in watched.clients]
    server.stop()
    eventually(lambda: all(metrics_of(one).value("runroom_broker_connected") == 0 for one in watched.clients.values()))
    for number in range(3):
        watched.create(f"waiting-{number}")

    def waiting(what: str) -> float:
        return metrics_of(watched.command).value(f"runroom_relay_unpublished_{what}")

    eventually(lambda: waiting("events") == 3)
    assert waiting("rooms") == 3
    eventually(lambda: waiting("seconds") > 1)
    server.start()
    eventually(lambda: all(metrics_of(one).value("runroom_broker_connected") == 1 for one in watched.clients.values()))
    assert all(moved() == 1 for moved in (*reconnects, *lost))
    eventually(lambda: waiting("events") == waiting("seconds") == 0)
