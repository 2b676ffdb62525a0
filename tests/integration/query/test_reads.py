"""The three reads: every filter, pages that neither repeat nor skip, and every refusal."""

from __future__ import annotations

import asyncio
import itertools
from datetime import timedelta
from typing import Any

import pytest

from shared.contracts.times import format_time

from .service import QueryService
from .world import NOON, Projections, fresh, run_row

RUN_MEMBERS = [
    "run_id", "workspace_id", "room_id", "thread_id", "status", "title", "goal", "input", "output", "error", "summary",
    "tags", "created_at", "started_at", "ended_at", "updated_at", "correlation_id", "last_event_id", "stream_seq",
]  # fmt: skip
STEP_MEMBERS = [
    "step_id", "run_id", "workspace_id", "room_id", "thread_id", "kind", "status", "title", "input", "output", "error",
    "created_at", "updated_at", "last_event_id", "stream_seq",
]  # fmt: skip


def problem(response: Any, status: int, error: str, *words: str) -> dict[str, Any]:
    assert response.status_code == status, response.text
    assert response.headers["content-type"].startswith("application/problem+json")
    body: dict[str, Any] = response.json()
    assert body["error"] == error
    assert all(word in body["detail"] for word in words), body
    assert ("retry-after" in response.headers) is (status == 503)
    return body


@pytest.fixture(scope="module")
async def many(projections: Projections) -> list[dict[str, Any]]:
    """Runs of one workspace in every state, in three rooms and two threads, some created at the same time."""
    states = ["queued", "running", "succeeded", "failed"]
    runs: list[dict[str, Any]] = []
    for number in range(60):
        run = run_row(
            run_id=f"run_{(number * 37) % 60:026d}",
            workspace_id="ws_many",
            room_id=f"room_{number % 3}",
            thread_id=[None, "thread_a", "thread_b"][number // 3 % 3],
            status=states[number % 4],
            tags=[[], ["red"], ["red", "blue"], ["blue, green"]][number % 4],
            correlation_id=f"c{number % 5}",
            minute=number // 3,
            stream_seq=number + 1,
        )
        runs.append(run)
        await projections.apply_run(run)
    await projections.apply_run({"workspace_id": "ws_other", "room_id": "room_0", "run_id": "run_" + "9" * 26})
    return sorted(runs, key=lambda run: (run["created_at"], run["run_id"]), reverse=True)


async def listed(query: QueryService, params: list[tuple[str, str]], limit: int = 7) -> list[str]:
    """Every run of the list, page by page."""
    runs: list[str] = []
    cursor: str | None = None
    while True:
        page = params + [("limit", str(limit))] + ([("cursor", cursor)] if cursor else [])
        response = await query.get("/v1/runs", page, x_workspace_id="ws_many")
        assert response.status_code == 200, response.text
        body = response.json()
        assert list(body) == ["runs", "next_cursor"]
        assert len(body["runs"]) <= limit
        assert len(runs) < 100, "pages repeat"
        runs += [run["run_id"] for run in body["runs"]]
        cursor = body["next_cursor"]
        if cursor is None:
            return runs


FILTERS: dict[str, list[list[tuple[str, str]]]] = {
    "room_id": [[], [("room_id", "room_1")]],
    "thread_id": [[], [("thread_id", "thread_a")]],
    "status": [[], [("status", "failed")], [("status", "queued"), ("status", "running")],
               [("status", s) for s in ("queued", "running", "succeeded", "failed")]],
    "tag": [[], [("tag", "red")], [("tag", "red"), ("tag", "blue")], [("tag", "blue, green")]],
    "correlation_id": [[], [("correlation_id", "c2")]],
    "created": [[], [("created_after", format_time(NOON + timedelta(minutes=5)))],
                [("created_after", "2026-01-31T14:02:00+02:00"), ("created_before", "2026-01-31T12:15:00.000000z")]],
}  # fmt: skip


def expected(many: list[dict[str, Any]], params: list[tuple[str, str]]) -> list[str]:
    given: dict[str, list[str]] = {}
    for name, value in params:
        given.setdefault(name, []).append(value)
    after = NOON + timedelta(minutes=5 if given.get("created_after", [""])[0].endswith("Z") else 2)
    return [
        run["run_id"]
        for run in many
        if all(run[name] == given[name][0] for name in ("room_id", "thread_id", "correlation_id") if name in given)
        and ("status" not in given or run["status"] in given["status"])
        and set(given.get("tag", [])) <= set(run["tags"])
        and ("created_after" not in given or run["created_at"] > after)
        and ("created_before" not in given or run["created_at"] < NOON + timedelta(minutes=15))
    ]


async def test_every_combination_of_filters(query: QueryService, many: list[dict[str, Any]]) -> None:
    combinations = [list(itertools.chain(*chosen)) for chosen in itertools.product(*FILTERS.values())]

    async def check(part: list[list[tuple[str, str]]]) -> None:
        for params in part:
            assert await listed(query, params, limit=25) == expected(many, params), params

    assert any(expected(many, params) for params in combinations)
    await asyncio.gather(*(check(combinations[start::4]) for start in range(4)))


async def test_pages_of_any_size_are_the_whole_list(query: QueryService, many: list[dict[str, Any]]) -> None:
    for limit in (1, 2, 3, 59, 60, 61):
        assert await listed(query, [], limit) == [run["run_id"] for run in many]


async def test_a_new_run_does_not_move_a_page(query: QueryService, projections: Projections) -> None:
    room = fresh("room")
    for minute in range(4):
        await projections.apply_run({"room_id": room, "run_id": f"run_{room}_{minute}", "minute": minute})
    first = (await query.get("/v1/runs", {"room_id": room, "limit": 2})).json()
    await projections.apply_run({"room_id": room, "run_id": f"run_{room}_new", "minute": 9})
    second = (await query.get("/v1/runs", {"room_id": room, "limit": 2, "cursor": first["next_cursor"]})).json()
    assert [run["run_id"][-1] for run in first["runs"] + second["runs"]] == ["3", "2", "1", "0"]
    assert second["next_cursor"] is None


async def test_a_run_has_every_member(query: QueryService, projections: Projections, room: str) -> None:
    run = run_row(
        room_id=room,
        thread_id="t",
        status="failed",
        title="Ünï",
        input='{"n": 12345678901234567890.10, "a": [1]}',
        error='{"message": "no"}',
        tags=["a", "b"],
        started_at=NOON,
        ended_at=NOON + timedelta(microseconds=1),
    )
    await projections.apply_run(run)
    response = await query.get(f"/v1/runs/{run['run_id']}")
    assert response.headers["content-type"] == "application/json"
    # Numbers pass through digit by digit.
    assert '"input":{"n": 12345678901234567890.10, "a": [1]}' in response.text
    body = response.json()
    assert list(body) == ["run"]
    assert list(body["run"]) == RUN_MEMBERS
    assert body["run"] | {"input": None} == {
        **run,
        "input": None,
        "output": {},
        "error": {"message": "no"},
        "created_at": "2026-01-31T12:00:00.000000Z",
        "updated_at": "2026-01-31T12:00:00.000000Z",
        "started_at": "2026-01-31T12:00:00.000000Z",
        "ended_at": "2026-01-31T12:00:00.000001Z",
        "last_event_id": str(run["last_event_id"]),
    }
    assert (await query.get("/v1/runs", {"room_id": room})).json()["runs"] == [body["run"]]


async def test_steps_oldest_first_in_pages(query: QueryService, projections: Projections, room: str) -> None:
    run_id = fresh("run")
    await projections.apply_run({"run_id": run_id, "room_id": room})
    assert (await query.get(f"/v1/runs/{run_id}/steps")).json() == {"steps": [], "next_cursor": None}
    for seq in (9, 3, 5, 7, 11):
        await projections.connection.execute(
            """
            insert into proj_steps (step_id, run_id, workspace_id, room_id, kind, status, input, output, error,
                created_at, updated_at, last_event_id, stream_seq)
            values ($1, $2, 'ws_dev', $3, 'tool', 'queued', '{"a": 1}', '{}', '{}', $4, $4, gen_random_uuid(), $5)
            """,
            f"step_{room}_{seq}", run_id, room, NOON, seq,
        )  # fmt: skip
    whole = (await query.get(f"/v1/runs/{run_id}/steps")).json()
    assert [step["stream_seq"] for step in whole["steps"]] == [3, 5, 7, 9, 11]
    assert list(whole["steps"][0]) == STEP_MEMBERS
    assert whole["steps"][0]["input"] == {"a": 1}
    assert whole["next_cursor"] is None
    steps: list[Any] = []
    params: dict[str, Any] = {"limit": 2}
    while True:
        page = (await query.get(f"/v1/runs/{run_id}/steps", params)).json()
        steps += page["steps"]
        if page["next_cursor"] is None:
            break
        params["cursor"] = page["next_cursor"]
    assert steps == whole["steps"]


async def test_nothing_of_another_workspace(query: QueryService, many: list[dict[str, Any]]) -> None:
    for path in (f"/v1/runs/{many[0]['run_id']}", f"/v1/runs/{many[0]['run_id']}/steps"):
        assert (await query.get(path, x_workspace_id="ws_many")).status_code == 200
        problem(await query.get(path, x_workspace_id="ws_other"), 404, "run_not_found")
    assert len((await query.get("/v1/runs", x_workspace_id="ws_other")).json()["runs"]) == 1
    problem(await query.get("/v1/runs", x_workspace_id="a.b"), 400, "invalid_request", "x-workspace-id")


@pytest.mark.parametrize("run_id", ["nope", "run_" + "0" * 26, "%00", "%FF", "x" * 3000, "run_'--", "%F0%9F%98%80"])
async def test_a_run_that_cannot_be(query: QueryService, run_id: str) -> None:
    problem(await query.get(f"/v1/runs/{run_id}"), 404, "run_not_found")
    problem(await query.get(f"/v1/runs/{run_id}/steps"), 404, "run_not_found")


@pytest.mark.parametrize(
    ("params", "error", "word"),
    [
        ("limit=0", "invalid_request", "limit"), ("limit=201", "invalid_request", "limit"),
        ("limit=", "invalid_request", "limit"), ("limit=%2B5", "invalid_request", "limit"),
        ("limit=1&limit=1", "invalid_request", "limit"), ("limit=5.0", "invalid_request", "limit"),
        ("limit=%D9%A1", "invalid_request", "limit"), ("limit=" + "9" * 5000, "invalid_request", "limit"),
        ("room_id=", "invalid_request", "room_id"), ("room_id=a.b", "invalid_request", "room_id"),
        ("room_id=a&room_id=a", "invalid_request", "room_id"), ("thread_id=%00", "invalid_request", "thread_id"),
        ("correlation_id=a%20b", "invalid_request", "correlation_id"), ("tag=%00", "invalid_request", "tag"),
        ("correlation_id=%00", "invalid_request", "correlation_id"),
        ("&".join(f"tag={n}" for n in range(101)), "invalid_request", "tag"),
        ("status=nope", "invalid_status", "status"), ("status=", "invalid_status", "status"),
        ("status=queued&status=Queued", "invalid_status", "status"),
        ("created_after=yesterday", "invalid_request", "created_after"),
        ("created_after=2026-01-31", "invalid_request", "created_after"),
        ("created_after=2026-01-31T12:00:00", "invalid_request", "created_after"),
        ("created_after=2026-02-30T12:00:00Z", "invalid_request", "created_after"),
        ("created_before=0001-01-01T00:00:00%2B14:00", "invalid_request", "created_before"),
        ("created_before=2026-W05-6T12:00:00Z", "invalid_request", "created_before"),
        ("cursor=", "invalid_cursor", "cursor"), ("cursor=nope", "invalid_cursor", "cursor"),
        ("cursor=%FF%00", "invalid_request", "UTF-8"), ("cursor=" + "A" * 43, "invalid_cursor", "cursor"),
        ("min_seq=1", "missing_room_id", "room_id"), ("room_id=a&min_seq=-1", "invalid_request", "min_seq"),
        ("room_id=a&min_seq=9223372036854775808", "invalid_request", "min_seq"),
        ("room_id=a&min_seq=1&wait=30001", "invalid_request", "wait"), ("wait=x", "invalid_request", "wait"),
        ("&".join(f"x{n}=" for n in range(201)), "invalid_request", "query"),
    ],
)  # fmt: skip
async def test_what_a_list_refuses(query: QueryService, params: str, error: str, word: str) -> None:
    problem(await query.get(f"/v1/runs?{params}"), 400, error, word)


async def test_what_is_nobodys_business_is_ignored(query: QueryService) -> None:
    params = "_=1&_=2&utm=%F0%9F%98%80&created_after=0001-01-01T00:00:00Z&created_before=9999-12-31T23:59:59.999999Z"
    assert (await query.get(f"/v1/runs?{params}")).status_code == 200


async def test_a_cursor_of_another_list(query: QueryService, many: list[dict[str, Any]]) -> None:
    page = {"limit": "1", "room_id": "room_0"}
    cursor = (await query.get("/v1/runs", page, x_workspace_id="ws_many")).json()["next_cursor"]
    same = await query.get("/v1/runs", page | {"cursor": cursor, "limit": "3"}, x_workspace_id="ws_many")
    assert same.status_code == 200
    problem(await query.get("/v1/runs", page | {"cursor": cursor}, x_workspace_id="ws_other"), 400, "invalid_cursor")
    for other in ({"room_id": "room_1"}, {"status": "queued"}, {"tag": "a"}, {"created_after": format_time(NOON)}):
        response = await query.get("/v1/runs", page | other | {"cursor": cursor}, x_workspace_id="ws_many")
        problem(response, 400, "invalid_cursor", "cursor")
    run_id = many[0]["run_id"]
    problem(
        await query.get(f"/v1/runs/{run_id}/steps", {"cursor": cursor}, x_workspace_id="ws_many"), 400, "invalid_cursor"
    )


@pytest.mark.parametrize(
    ("accept", "status"),
    [("*/*", 200), ("application/json", 200), ("application/*;q=0.1", 200), ("text/html", 406),
     ("application/json;q=0, */*", 406), ("text/event-stream", 406)],
)  # fmt: skip
async def test_what_a_client_accepts(query: QueryService, many: list[dict[str, Any]], accept: str, status: int) -> None:
    run_id = many[0]["run_id"]
    for path in ("/v1/runs", f"/v1/runs/{run_id}", f"/v1/runs/{run_id}/steps"):
        response = await query.get(path, accept=accept, x_workspace_id="ws_many")
        assert response.status_code == status
        if status == 406:
            problem(response, 406, "not_acceptable")


async def test_routes_that_are_not_there(query: QueryService) -> None:
    problem(await query.get("/v2/runs"), 404, "not_found")
    problem(await query.http.post("/v1/runs"), 405, "method_not_allowed")


async def test_health_and_description(query: QueryService) -> None:
    assert (await query.get("/healthz")).status_code == 200
    assert (await query.get("/readyz")).json()["dependencies"].keys() == {"projections", "service", "nats"}
    document = (await query.get("/schema/openapi.json")).json()
    assert document["openapi"].startswith("3.1")
    listing = document["paths"]["/v1/runs"]["get"]
    assert {"room_id", "min_seq", "cursor"} <= {parameter["name"] for parameter in listing["parameters"]}
    assert "text/event-stream" in document["paths"]["/v1/streams/rooms/{room_id}"]["get"]["responses"]["200"]["content"]
