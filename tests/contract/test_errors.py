"""Every refusal is a problem document with a stable code, and a refused command changes nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import pytest

from . import expect
from .client import Workspace

MIB = 1024 * 1024


@pytest.fixture
async def run_id(workspace: Workspace, room: str) -> AsyncIterator[str]:
    """A running run; afterwards, nothing but its two events may be in the room."""
    run = await workspace.running(room)
    yield run["run_id"]
    after = await workspace.create(room)
    assert after["stream_seq"] == run["stream_seq"] + 1, "a refused command wrote an event"


# 400: the member is named


@pytest.mark.parametrize("content", [b"{}", b'{"title": "t"}'], ids=["object", "other"])
async def test_a_run_without_a_room(workspace: Workspace, content: bytes) -> None:
    expect.problem(await workspace.post("/v1/runs", content=content), 400, "missing_room_id")


@pytest.mark.parametrize("content", [b"{}", b'{"title": "t"}'], ids=["object", "other"])
async def test_a_step_without_a_kind(workspace: Workspace, run_id: str, content: bytes) -> None:
    expect.problem(await workspace.post(f"/v1/runs/{run_id}/steps", content=content), 400, "missing_kind")


async def test_no_body_where_one_is_due(workspace: Workspace, run_id: str) -> None:
    expect.problem(await workspace.post("/v1/runs"), 400, "missing_room_id", "invalid_request")
    expect.problem(await workspace.post(f"/v1/runs/{run_id}/steps"), 400, "missing_kind", "invalid_request")


@pytest.mark.parametrize("empty", [None, ""])
async def test_an_empty_room_or_kind_is_missing_or_invalid(
    workspace: Workspace, run_id: str, empty: str | None
) -> None:
    no_room = await workspace.post("/v1/runs", {"room_id": empty})
    no_kind = await workspace.post(f"/v1/runs/{run_id}/steps", {"kind": empty})

    expect.problem(no_room, 400, "missing_room_id", "invalid_request")
    expect.problem(no_kind, 400, "missing_kind", "invalid_request")


@pytest.mark.parametrize(
    ("member", "value"),
    [
        ("room_id", 5), ("room_id", "a b"), ("room_id", "a.b"), ("room_id", "r/1"), ("room_id", "x" * 129),
        ("room_id", "raum-ä"), ("room_id", "*"), ("room_id", ">"), ("room_id", "a\n"),
        ("thread_id", 5), ("thread_id", "a.b"), ("thread_id", ""), ("thread_id", "t" * 129),
        ("title", 5), ("title", ["t"]), ("goal", {}), ("goal", True),
        ("input", []), ("input", "text"), ("input", 7),
        ("tags", "tag"), ("tags", {"a": 1}), ("tags", [1]), ("tags", ["a", None]),
        ("correlation_id", 5), ("correlation_id", ""), ("correlation_id", "a b"), ("correlation_id", "c" * 129),
        ("correlation_id", "a\tb"), ("correlation_id", "a\u0007"), ("causation_id", 5), ("causation_id", "no event id"),
    ],
)  # fmt: skip
async def test_a_wrong_member_of_a_run_is_named(workspace: Workspace, room: str, member: str, value: object) -> None:
    body = expect.problem(await workspace.post("/v1/runs", {"room_id": room, member: value}), 400, "invalid_request")

    assert member in body["detail"]
    assert (await workspace.create(room))["stream_seq"] == 1


@pytest.mark.parametrize(
    ("verb", "member", "value"),
    [
        ("complete", "summary", 5), ("complete", "output", []), ("complete", "output", "text"),
        ("fail", "message", 5), ("fail", "message", {}), ("fail", "error", []), ("fail", "error", "text"),
        ("steps", "kind", 5), ("steps", "title", 5), ("steps", "input", []), ("steps", "input", "text"),
    ],
)  # fmt: skip
async def test_a_wrong_member_of_a_later_command_is_named(
    workspace: Workspace, run_id: str, verb: str, member: str, value: object
) -> None:
    given = {"kind": "k"} if verb == "steps" else {}

    response = await workspace.post(f"/v1/runs/{run_id}/{verb}", given | {member: value})

    assert member in expect.problem(response, 400, "invalid_request")["detail"]


@pytest.mark.parametrize("verb", ["", "/start", "/complete", "/fail", "/steps"])
async def test_unknown_members_are_named(workspace: Workspace, room: str, run_id: str, verb: str) -> None:
    path = f"/v1/runs/{run_id}{verb}" if verb else "/v1/runs"
    given = {"": {"room_id": room}, "/steps": {"kind": "k"}}.get(verb, {})

    response = await workspace.post(path, given | {"colour": 1, "shape": {"x": 2}})

    detail = expect.problem(response, 400, "invalid_request")["detail"]
    assert "colour" in detail
    assert "shape" in detail


@pytest.mark.parametrize(
    "content", [b"nope", b"{", b'{"room_id": "r"', b"[]", b'"text"', b"1", b"null", b"{}{}", b"\xef\xbb\xbf"]
)
async def test_a_body_that_is_no_object(workspace: Workspace, content: bytes) -> None:
    expect.problem(await workspace.post("/v1/runs", content=content), 400, "invalid_request")


@pytest.mark.parametrize("verb", ["start", "complete", "fail", "steps"])
@pytest.mark.parametrize("content", [b"[]", b"1", b"{", b'"x"'])
async def test_a_body_of_a_later_command_that_is_no_object(
    workspace: Workspace, run_id: str, verb: str, content: bytes
) -> None:
    expect.problem(await workspace.post(f"/v1/runs/{run_id}/{verb}", content=content), 400, "invalid_request")


@pytest.mark.parametrize("workspace_id", ["a b", "a.b", "x" * 129, "ws/1", "wä".encode(), "*"])
async def test_a_workspace_that_is_no_name(workspace: Workspace, room: str, workspace_id: str | bytes) -> None:
    headers = {"x-workspace-id": workspace_id}

    expect.problem(await workspace.post("/v1/runs", {"room_id": room}, headers=headers), 400, "invalid_request")
    expect.problem(await workspace.get("/v1/runs", headers=headers), 400, "invalid_request")
    expect.problem(await workspace.no_stream(room, headers=headers), 400, "invalid_request")


async def test_an_actor_type_nobody_knows(workspace: Workspace, room: str) -> None:
    response = await workspace.post("/v1/runs", {"room_id": room}, headers={"x-actor-type": "robot"})

    expect.problem(response, 400, "invalid_request")


# 400: queries


@pytest.mark.parametrize("status", ["done", "", "QUEUED", "queued,running"])
async def test_a_status_nobody_knows(workspace: Workspace, status: str) -> None:
    expect.problem(await workspace.get("/v1/runs", {"status": status}), 400, "invalid_status")
    expect.problem(await workspace.get("/v1/runs", [("status", "queued"), ("status", status)]), 400, "invalid_status")


@pytest.mark.parametrize("cursor", ["x", "!!", "bm9wZQ", "bm9wZQ==", "e30", "W10", "AAAA", "%00", "é", "a" * 5000])
async def test_a_cursor_nobody_gave(workspace: Workspace, run_id: str, room: str, cursor: str) -> None:
    await workspace.settle(room, 2)

    expect.problem(await workspace.get("/v1/runs", {"cursor": cursor}), 400, "invalid_cursor")
    expect.problem(await workspace.get(f"/v1/runs/{run_id}/steps", {"cursor": cursor}), 400, "invalid_cursor")


@pytest.mark.parametrize("seq", ["abc", "-1", "1.5", "1e3", "0x10", "LATEST", "1 2", "٣", "null"])
async def test_a_stream_position_that_is_no_number(workspace: Workspace, room: str, seq: str) -> None:
    expect.problem(await workspace.no_stream(room, {"from_seq": seq}), 400, "invalid_cursor")
    expect.problem(await workspace.no_stream(room, headers={"last-event-id": seq.encode()}), 400, "invalid_cursor")


@pytest.mark.parametrize("limit", ["0", "201", "-1", "ten", "1.5", "99999999999999999999"])
async def test_a_limit_out_of_range(workspace: Workspace, run_id: str, room: str, limit: str) -> None:
    await workspace.settle(room, 2)

    for path in ("/v1/runs", f"/v1/runs/{run_id}/steps"):
        body = expect.problem(await workspace.get(path, {"limit": limit}), 400, "invalid_request")
        assert "limit" in body["detail"]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("created_after", "yesterday"), ("created_before", "2026-13-01T00:00:00Z"), ("created_after", "0"),
        ("min_seq", "abc"), ("min_seq", "-1"), ("min_seq", "1.5"), ("wait", "abc"), ("wait", "-1"),
    ],
)  # fmt: skip
async def test_a_query_parameter_that_makes_no_sense_is_named(
    workspace: Workspace, room: str, name: str, value: str
) -> None:
    response = await workspace.get("/v1/runs", {"room_id": room, name: value})

    assert name in expect.problem(response, 400, "invalid_request")["detail"]


async def test_a_position_without_its_room(workspace: Workspace) -> None:
    expect.problem(await workspace.get("/v1/runs", {"min_seq": 1}), 400, "missing_room_id", "invalid_request")


@pytest.mark.parametrize("room_id", ["a.b", "x" * 129, "a%20b", "%C3%A9", "*", "%3E", "%00", "%FF"])
async def test_a_room_that_is_no_name(workspace: Workspace, room_id: str) -> None:
    response = await workspace.no_stream(room_id)

    assert "room_id" in expect.problem(response, 400, "invalid_request")["detail"]


# 404


@pytest.mark.parametrize("verb", ["start", "complete", "fail", "steps"])
async def test_a_command_to_a_run_nobody_created(workspace: Workspace, verb: str) -> None:
    body = {"kind": "k"} if verb == "steps" else {}

    response = await workspace.post(f"/v1/runs/{expect.nobodys('run')}/{verb}", body)

    expect.problem(response, 404, "run_not_found")


async def test_a_read_of_a_run_nobody_created(workspace: Workspace) -> None:
    run_id = expect.nobodys("run")

    expect.problem(await workspace.get(f"/v1/runs/{run_id}"), 404, "run_not_found")
    expect.problem(await workspace.get(f"/v1/runs/{run_id}/steps"), 404, "run_not_found")


def no_such_run(response: httpx.Response) -> None:
    """The id is no run's: not found, or refused for its form."""
    if response.status_code == 400:
        expect.problem(response, 400, "invalid_request")
    else:
        expect.problem(response, 404, "run_not_found")


@pytest.mark.parametrize(
    "run_id",
    ["nope", "run_", "run_short", "run_" + "z" * 26, "run_" + "0" * 27, "RUN_1", "%00", "%FF", "run_%00", "x" * 3000],
)
async def test_an_id_no_run_can_have(workspace: Workspace, run_id: str) -> None:
    for verb, body in (("start", {}), ("complete", {}), ("fail", {}), ("steps", {"kind": "k"})):
        response = await workspace.post(f"/v1/runs/{run_id}/{verb}", body)
        no_such_run(response)
    for path in (f"/v1/runs/{run_id}", f"/v1/runs/{run_id}/steps"):
        response = await workspace.get(path)
        no_such_run(response)


async def test_a_step_id_is_no_run_id(workspace: Workspace, run_id: str) -> None:
    step_id = expect.nobodys("step")

    response = await workspace.post(f"/v1/runs/{step_id}/start")

    no_such_run(response)


@pytest.mark.parametrize("path", ["/v1/nothing", "/v1/runs/x/explode", "/v2/runs", "/v1/streams/rooms"])
async def test_a_path_that_is_not_there(workspace: Workspace, path: str) -> None:
    expect.problem(await workspace.get(path), 404, "not_found")
    expect.problem(await workspace.post(path, {}), 404, "not_found")


# 405, 406, 413, 415


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH"])
async def test_a_method_commands_do_not_have(workspace: Workspace, run_id: str, method: str) -> None:
    for path in ("/v1/runs", f"/v1/runs/{run_id}/start", f"/v1/runs/{run_id}/steps"):
        response = await workspace.http.request(method, f"{workspace.command_url}{path}")
        expect.problem(response, 405, "method_not_allowed")
        assert "POST" in response.headers["allow"]


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
async def test_a_method_reads_do_not_have(workspace: Workspace, room: str, method: str) -> None:
    run_id = expect.nobodys("run")
    for path in ("/v1/runs", f"/v1/runs/{run_id}", f"/v1/runs/{run_id}/steps", f"/v1/streams/rooms/{room}"):
        response = await workspace.http.request(method, f"{workspace.query_url}{path}")
        expect.problem(response, 405, "method_not_allowed")
        assert "GET" in response.headers["allow"]


async def test_an_answer_in_no_form_the_client_takes(workspace: Workspace, room: str, run_id: str) -> None:
    picture = {"accept": "image/png"}
    answers = [
        await workspace.post("/v1/runs", {"room_id": room}, headers=picture),
        await workspace.post(f"/v1/runs/{run_id}/steps", {"kind": "k"}, headers=picture),
        await workspace.get("/v1/runs", headers=picture),
        await workspace.get(f"/v1/runs/{run_id}", headers=picture),
        await workspace.no_stream(room, headers=picture),
    ]

    for response in answers:
        expect.problem(response, 406, "not_acceptable")


@pytest.mark.parametrize("accept", ["*/*", "application/*", "application/json", "text/html, application/json;q=0.5"])
async def test_an_answer_in_a_form_the_client_takes(workspace: Workspace, room: str, accept: str) -> None:
    headers = {"accept": accept}

    expect.accepted(await workspace.post("/v1/runs", {"room_id": room}, headers=headers), 201)
    expect.page(await workspace.get("/v1/runs", headers=headers), "runs")


@pytest.mark.parametrize(
    "content_type", ["text/plain", "application/x-www-form-urlencoded", "application/xml", "multipart/form-data"]
)
async def test_a_body_in_another_form(workspace: Workspace, room: str, run_id: str, content_type: str) -> None:
    headers = {"content-type": content_type}

    for path, content in (("/v1/runs", f'{{"room_id":"{room}"}}'), (f"/v1/runs/{run_id}/steps", '{"kind":"k"}')):
        response = await workspace.post(path, content=content.encode(), headers=headers)
        expect.problem(response, 415, "unsupported_media_type")


@pytest.mark.parametrize(
    "content_type", ["application/json; charset=utf-8", "APPLICATION/JSON", 'application/json;charset="UTF-8"']
)
async def test_a_json_body_by_another_name(workspace: Workspace, room: str, content_type: str) -> None:
    content = f'{{"room_id":"{room}"}}'.encode()

    expect.accepted(await workspace.post("/v1/runs", content=content, headers={"content-type": content_type}), 201)


async def test_a_body_beyond_the_limit(workspace: Workspace, room: str, run_id: str) -> None:
    content = b'{"room_id":"%s","goal":"%s"}' % (room.encode(), b"g" * MIB)

    async def in_pieces() -> AsyncIterator[bytes]:
        for start in range(0, len(content), 64 * 1024):
            yield content[start : start + 64 * 1024]

    expect.problem(await workspace.post("/v1/runs", content=content), 413, "body_too_large")
    expect.problem(await workspace.post("/v1/runs", content=in_pieces()), 413, "body_too_large")
    expect.problem(await workspace.post(f"/v1/runs/{run_id}/start", content=content), 413, "body_too_large")
