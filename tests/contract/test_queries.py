"""A query parameter that makes no sense is refused by name; none is guessed at or passed over in silence."""

from __future__ import annotations

import pytest

from . import expect
from .client import Workspace


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
