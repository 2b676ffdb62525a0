"""A body that is not what its command takes is refused with the name of what is wrong, and writes nothing."""

from __future__ import annotations

import pytest

from . import expect, tokens
from .client import Workspace


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
    "content",
    [b"nope", b"{", b'{"room_id": "r"', b"[]", b'"text"', b"1", b"null", b"{}{}", b"\xef\xbb\xbf", b'{"x": 1, nope'],
)
async def test_a_body_that_is_no_object(workspace: Workspace, content: bytes) -> None:
    expect.problem(await workspace.post("/v1/runs", content=content), 400, "invalid_request")


@pytest.mark.parametrize("verb", ["start", "complete", "fail", "steps"])
@pytest.mark.parametrize("content", [b"[]", b"1", b"{", b'"x"', b'{"x": 1, nope'])
async def test_a_body_of_a_later_command_that_is_no_object(
    workspace: Workspace, run_id: str, verb: str, content: bytes
) -> None:
    expect.problem(await workspace.post(f"/v1/runs/{run_id}/{verb}", content=content), 400, "invalid_request")


@pytest.mark.parametrize("workspace_id", ["a b", "a.b", "x" * 129, "ws/1", "wä".encode(), "*"])
async def test_a_workspace_that_is_no_name(workspace: Workspace, room: str, workspace_id: str | bytes) -> None:
    headers = {"x-workspace-id": workspace_id}
    # With a token it is also another workspace than the token's.
    status, code = (403, "insufficient_scope") if tokens.is_on() else (400, "invalid_request")

    expect.problem(await workspace.post("/v1/runs", {"room_id": room}, headers=headers), status, code)
    expect.problem(await workspace.get("/v1/runs", headers=headers), status, code)
    expect.problem(await workspace.no_stream(room, headers=headers), status, code)


async def test_an_actor_type_nobody_knows(workspace: Workspace, room: str) -> None:
    response = await workspace.post("/v1/runs", {"room_id": room}, headers={"x-actor-type": "robot"})

    if tokens.is_on():
        expect.accepted(response, 201)  # the token's actor type is what counts
    else:
        expect.problem(response, 400, "invalid_request")
