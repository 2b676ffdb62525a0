"""No input makes a 500, and what was accepted can be read, streamed and followed by more.

Where the contract does not say whether something strange is held or refused, both are fine, and the room must be alive
afterwards either way: an accepted event that no later part of the system can carry would stop its room for good.
"""

from __future__ import annotations

import json
import secrets
from typing import Any

import httpx
import pytest

from . import expect
from .client import Workspace

MIB = 1024 * 1024


async def held_or_refused(workspace: Workspace, room: str, response: httpx.Response) -> dict[str, Any] | None:
    """The answer is 201 or a 400; the room is alive. Return the row of the run, if it was held."""
    if response.status_code == 400:
        expect.problem(response, 400, "invalid_request")
        await workspace.alive(room)
        return None
    run = expect.accepted(response, 201)
    await workspace.alive(room, run)
    return await workspace.run(run["run_id"], run["stream_seq"])


@pytest.mark.parametrize(
    "number", ["9007199254740993", "18446744073709551616", "-9223372036854775809", "1" + "0" * 40, "1e300"]
)
async def test_a_large_number_is_exact_or_refused(workspace: Workspace, room: str, number: str) -> None:
    response = await workspace.post("/v1/runs", content=f'{{"room_id":"{room}","input":{{"n":{number}}}}}'.encode())

    row = await held_or_refused(workspace, room, response)

    if row is not None:
        sent = json.loads(number)
        assert float(row["input"]["n"]) == float(sent)
        (event, *_) = await workspace.feed(room, 1)
        assert float(event.envelope["data"]["input"]["n"]) == float(sent)


@pytest.mark.parametrize(
    "value",
    [
        "[" + ",".join(["1e15"] * 200_000) + "]",
        "[" + ",".join(["1e20"] * 200_000) + "]",
        "[" + ",".join(["1e300"] * 40_000) + "]",
        "[" + ",".join(["1e9"] * 250_000) + "]",
        "[" + ",".join(['"\u2028"'] * 150_000) + "]",
        '"' + "\x7f" * 1_000_000 + '"',
        '"' + r"\u00e9" * 170_000 + '"',
        '"' + r"\/" * 500_000 + '"',
    ],
    ids=["1e15", "1e20", "1e300", "1e9", "separators", "DEL", "escaped letters", "escaped slashes"],
)
async def test_a_body_that_may_grow_when_written_again_stops_nothing(
    workspace: Workspace, room: str, value: str
) -> None:
    """The limit is on the body; what is made of it must fit whatever carries it."""
    body = f'{{"room_id":"{room}","input":{{"v":{value}}}}}'.encode()
    assert len(body) <= MIB

    response = await workspace.post("/v1/runs", content=body)

    if response.status_code == 413:
        expect.problem(response, 413, "body_too_large")
        await workspace.alive(room)
    else:
        row = await held_or_refused(workspace, room, response)
        assert row is None or row["input"]["v"] == json.loads(value)


async def test_a_body_at_the_limit_is_carried_to_the_end(workspace: Workspace, room: str) -> None:
    frame = f'{{"room_id":"{room}","goal":""}}'
    goal = secrets.token_hex(MIB // 2)[: MIB - len(frame)]
    content = frame.replace('""', f'"{goal}"').encode()
    assert len(content) == MIB

    run = expect.accepted(await workspace.post("/v1/runs", content=content), 201)

    (event,) = await workspace.feed(room, run["stream_seq"])
    assert event.envelope["data"]["goal"] == goal
    assert (await workspace.run(run["run_id"], run["stream_seq"]))["goal"] == goal
    await workspace.alive(room, run)


@pytest.mark.parametrize(
    "members",
    [
        {"tags": ["x" * 100_000]}, {"tags": [secrets.token_hex(20_000)]},
        {"tags": [secrets.token_hex(8) for _ in range(20_000)]},
        {"tags": [""]}, {"tags": ["same", "same"]}, {"tags": []}, {"tags": ['a,"b"', "{}", "NULL", "\\", " "]},
        {"title": secrets.token_hex(100_000)}, {"title": ""}, {"goal": "\u2028\u2029\x85\r\n\x0b\x0c\x1c\x1d\x1e"},
        {"input": {"": {"": ""}}}, {"input": {"k" * 70_000: 1}}, {"input": {str(n): n for n in range(30_000)}},
        {"title": "data: x\n\nevent: caught-up\nid: 999\n\n"}, {"title": "\ufeff\ufffe\uffff\U0010ffff"},
        {"input": {"room_id": "other", "run_id": "x", "stream_seq": 99}},
    ],
    ids=lambda members: next(iter(members)),
)  # fmt: skip
async def test_strange_but_lawful_members(workspace: Workspace, room: str, members: dict[str, Any]) -> None:
    row = await held_or_refused(workspace, room, await workspace.post("/v1/runs", {"room_id": room, **members}))

    if row is not None:
        assert {name: row[name] for name in members} == members
        (event, *_) = await workspace.feed(room, 1)
        assert event.envelope["data"].items() >= members.items()


@pytest.mark.parametrize("kind", ["k" * 100_000, " ", "a\nb", "日本", "data: x\n\n"])
async def test_strange_but_lawful_kinds(workspace: Workspace, room: str, kind: str) -> None:
    run = await workspace.running(room)
    response = await workspace.post(f"/v1/runs/{run['run_id']}/steps", {"kind": kind})

    if response.status_code == 400:
        expect.problem(response, 400, "invalid_request", "missing_kind")
    else:
        step = expect.accepted(response, 201, step=True)
        page = await workspace.steps(run["run_id"], min_seq=step["stream_seq"], wait=30_000)
        assert page["steps"][0]["kind"] == kind
    await workspace.alive(room, run)


async def test_a_member_given_twice(workspace: Workspace, room: str) -> None:
    content = f'{{"room_id":"{room}-a","room_id":"{room}","input":{{"a":1,"a":2}}}}'.encode()

    await held_or_refused(workspace, room, await workspace.post("/v1/runs", content=content))


@pytest.mark.parametrize("nesting", [50, 500])
async def test_moderate_nesting(workspace: Workspace, room: str, nesting: int) -> None:
    body = f'{{"room_id":"{room}","input":{{"v":{"[" * nesting}{"]" * nesting}}}}}'

    row = await held_or_refused(workspace, room, await workspace.post("/v1/runs", content=body.encode()))

    assert row is not None or nesting > 50, "fifty levels are no attack"


@pytest.mark.parametrize(
    "name", ["room_id", "thread_id", "status", "tag", "correlation_id", "created_after", "cursor", "limit", "min_seq"]
)
@pytest.mark.parametrize("value", ["%00", "%FF", "%ED%A0%80", "a%00b", "%F0%9F%A7%BE", "'", "%22%7D", "1" * 400])
async def test_filters_that_match_nothing_make_no_server_error(workspace: Workspace, name: str, value: str) -> None:
    query = f"room_id=r&wait=0&{name}={value}"
    response = await workspace.http.get(f"{workspace.query_url}/v1/runs?{query}", headers=workspace.credentials)

    if response.status_code == 200:
        assert expect.page(response, "runs")["runs"] == []
    else:
        codes = {"invalid_request", "invalid_status", "invalid_cursor"}
        if name == "min_seq" and response.status_code == 503:
            expect.problem(response, 503, "projection_behind")
        else:
            expect.problem(response, 400, *codes)


@pytest.mark.parametrize(
    "when",
    ["0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59", "0000-01-01T00:00:00Z", "10000-01-01T00:00:00Z",
     "2026-01-01T00:00:00.123456789Z", "2026-01-01T24:00:00Z", "2016-12-31T23:59:60Z", "2026-01-01", "2026-W01-1",
     "infinity"],
)  # fmt: skip
async def test_times_at_the_edge_make_no_server_error(workspace: Workspace, when: str) -> None:
    for name in ("created_after", "created_before"):
        response = await workspace.get("/v1/runs", {name: when})
        if response.status_code != 200:
            assert name in expect.problem(response, 400, "invalid_request")["detail"]


@pytest.mark.parametrize("seq", ["9" * 15, str(2**63 - 1), str(2**63), "9" * 40, "9" * 5000, "007", "+1"])
async def test_positions_at_the_edge_make_no_server_error(workspace: Workspace, room: str, seq: str) -> None:
    run = await workspace.create(room)
    await workspace.settle(room, 1)
    for path in ("/v1/runs", f"/v1/runs/{run['run_id']}", f"/v1/runs/{run['run_id']}/steps"):
        params = {"min_seq": seq, "wait": "0"} | ({"room_id": room} if path == "/v1/runs" else {})
        response = await workspace.get(path, params)
        if response.status_code == 503:
            expect.problem(response, 503, "projection_behind")
        elif response.status_code != 200:
            expect.problem(response, 400, "invalid_request")


@pytest.mark.parametrize(
    "headers",
    [
        {"x-actor-id": "é".encode()}, {"x-actor-id": b"\xff"}, {"x-actor-id": "x" * 5000}, {"x-actor-id": ""},
        {"x-actor-type": ""}, {"content-encoding": "gzip"}, {"traceparent": "nonsense"},
        {"idempotency-key": "é".encode()}, {"idempotency-key": b"\xff\xfe"},
    ],
)  # fmt: skip
async def test_strange_headers_make_no_server_error(
    workspace: Workspace, room: str, headers: dict[str, str | bytes]
) -> None:
    response = await workspace.post("/v1/runs", {"room_id": room}, headers=headers)

    if response.status_code == 415:
        expect.problem(response, 415, "unsupported_media_type")
    elif response.status_code != 201:
        expect.problem(response, 400, "invalid_request")
    await workspace.alive(room)
