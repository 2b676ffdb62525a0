"""What services log: lines that name their request, and nothing that a client has written."""

from __future__ import annotations

import json

import asyncpg

from tests.integration.observability.stack import Watched

SECRET = "a-secret-of-the-client"


def test_a_line_names_its_request_and_the_run_it_was_about(watched: Watched) -> None:
    headers = {"x-request-id": "given-by-the-client"}
    answer = watched.command.post("/v1/runs", json={"room_id": "logged"}, headers=headers)
    assert answer.headers["x-request-id"] == "given-by-the-client"
    line = watched.line("command", "request", request_id="given-by-the-client")
    assert (line["method"], line["path"], line["status"]) == ("POST", "/v1/runs", 201)
    assert line["correlation_id"] == answer.json()["correlation_id"]
    assert "trace_id" not in line


def test_a_path_is_written_as_it_was_sent(watched: Watched) -> None:
    """Decoded, it could tell the terminal of whoever reads the log what to do."""
    path = "/v1/runs/%1b]52;c;ZXZpbA%07%1b[2J%c2%9b31m%E2%80%AE"
    for number, query in enumerate(("", "?token=secret")):
        name = f"escapes-{number}"
        assert watched.query.get(path + query, headers={"x-request-id": name}).status_code == 404
        assert watched.line("query", "request", request_id=name)["path"].lower() == path.lower()


def test_problems_and_streams_carry_the_id_too(watched: Watched) -> None:
    headers = {"x-request-id": "problem-1"}
    answer = watched.command.post("/v1/runs/run_none/start", headers=headers)
    assert (answer.status_code, answer.headers["x-request-id"]) == (404, "problem-1")
    assert "request_id" not in answer.json()
    with watched.following("logged", **{"x-request-id": "stream-1"}) as follower:
        assert follower.headers["x-request-id"] == "stream-1"


async def test_a_parked_event_is_named_by_its_ids(watched: Watched) -> None:
    event_id = "01a2092f-bf02-724b-b0fb-06e48ee7cfbf"
    envelope = {"event_type": "run.unheard-of", "event_id": event_id, "correlation_id": "corr-1", "data": SECRET}
    store = await asyncpg.connect(watched.stack.addresses("command")["EVENT_STORE_DSN"])
    await store.execute("insert into rooms (workspace_id, room_id, last_seq) values ('ws_dev', 'parked', 1)")
    await store.execute(
        "insert into events (workspace_id, room_id, stream_seq, event_id, run_id, event_type, event_version,"
        " recorded_at, envelope) values ('ws_dev', 'parked', 1, $1, 'run_x', 'run.unheard-of', 1, now(), $2)",
        event_id,
        json.dumps(envelope).encode(),
    )
    await store.close()
    line = watched.line("projector", "event_parked", room_id="parked")
    assert (line["stream_seq"], line["event_id"]) == (1, event_id)
    assert line["correlation_id"] == "corr-1"


def test_nothing_that_a_client_has_written_is_in_any_log(watched: Watched) -> None:
    key = {"Idempotency-Key": SECRET}
    body = {"room_id": "private", "title": SECRET, "input": {"q": SECRET}, "tags": [SECRET]}
    run_id = watched.command.post("/v1/runs", json=body, headers=key).json()["run_id"]
    watched.command.post("/v1/runs", json={**body, SECRET: 1})
    watched.command.post(f"/v1/runs/{run_id}/fail", json={"message": SECRET})
    watched.query.get("/v1/runs", params={"tag": SECRET, "cursor": SECRET})
    watched.command.get("/healthz", headers={"x-request-id": "the-last"})
    watched.line("query", "request", path="/v1/runs")
    watched.line("command", "request", request_id="the-last")
    logs = list((watched.stack.data_dir / "logs").glob("*.log"))
    assert len(logs) == 3
    assert [log.name for log in logs if SECRET in log.read_text()] == []
