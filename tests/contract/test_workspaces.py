"""Two workspaces never see each other: not by id, list, room, stream, key or cursor."""

from __future__ import annotations

import asyncio

from . import expect, tokens
from .client import Workspace, fresh


async def test_another_workspaces_run_does_not_exist(workspace: Workspace, room: str) -> None:
    run = await workspace.running(room)
    await workspace.step(run["run_id"])
    await workspace.settle(room, 3)
    stranger, path = workspace.other(), f"/v1/runs/{run['run_id']}"

    missing = [
        await stranger.get(path),
        await stranger.get(f"{path}/steps"),
        await stranger.post(f"{path}/start"),
        await stranger.post(f"{path}/complete"),
        await stranger.post(f"{path}/fail"),
        await stranger.post(f"{path}/steps", {"kind": "k"}),
    ]

    for response in missing:
        expect.problem(response, 404, "run_not_found")
        assert workspace.id not in response.text
    assert (await workspace.complete(run["run_id"]))["stream_seq"] == 4


async def test_a_refusal_does_not_tell_whether_a_run_is_another_workspaces(workspace: Workspace, room: str) -> None:
    run = await workspace.running(room)
    await workspace.settle(room, 2)
    stranger, nobody = workspace.other(), expect.nobodys("run")

    def told(text: str, run_id: str) -> str:
        return text.replace(run_id, "ID")

    for suffix, params in (("", None), ("/steps", None), ("", {"min_seq": 1, "wait": 0})):
        theirs = await stranger.get(f"/v1/runs/{run['run_id']}{suffix}", params)
        missing = await stranger.get(f"/v1/runs/{nobody}{suffix}", params)
        assert theirs.status_code == missing.status_code
        assert told(theirs.text, run["run_id"]) == told(missing.text, nobody)


async def test_lists_hold_only_their_workspaces_runs(workspace: Workspace, room: str) -> None:
    other = workspace.other()
    members = {"thread_id": "t", "tags": ["x"], "correlation_id": "same"}
    mine = [(await workspace.create(room, **members))["run_id"] for _ in range(3)]
    theirs = [(await other.create(room, **members))["run_id"] for _ in range(2)]
    await workspace.settle(room, 3)
    await other.settle(room, 2)

    for params in (
        {},
        {"room_id": room},
        {"thread_id": "t"},
        {"tag": "x"},
        {"correlation_id": "same"},
        {"status": "queued"},
    ):
        assert [run["run_id"] for run in (await workspace.runs(**params))["runs"]] == mine[::-1]
        assert [run["run_id"] for run in (await other.runs(**params))["runs"]] == theirs[::-1]


async def test_the_same_room_name_is_two_rooms(workspace: Workspace, room: str) -> None:
    other = workspace.other()
    async with workspace.stream(room) as mine, other.stream(room) as theirs:
        await mine.caught_up()
        await theirs.caught_up()
        for seq in range(1, 4):
            answers = await asyncio.gather(workspace.create(room), other.create(room))
            assert [answer["stream_seq"] for answer in answers] == [seq, seq]
            for stream, owner, answer in zip((mine, theirs), (workspace, other), answers, strict=True):
                event = await stream.event()
                expect.envelope(event, owner.id, room)
                assert (event.seq, event.event_id) == (seq, answer["event_id"])


async def test_the_history_of_a_room_is_its_workspaces(workspace: Workspace, room: str) -> None:
    for _ in range(3):
        await workspace.create(room)
    await workspace.settle(room, 3)

    async with workspace.other().stream(room) as stream:
        assert await stream.caught_up() == ([], 0)


async def test_names_that_would_run_together_stay_apart(workspace: Workspace) -> None:
    """Workspace and room are two tokens; joined with any separator of the alphabet they would be one."""
    left, right = workspace.other(), workspace.other()
    base = fresh("ws")
    left.id, right.id = f"{base}_a", base

    one, two = await left.create("b"), await right.create("a_b")

    assert (one["stream_seq"], two["stream_seq"]) == (1, 1)
    (event,) = await left.feed("b", 1)
    assert event.event_id == one["event_id"]


async def test_who_says_nothing_is_in_ws_dev_or_nobody(workspace: Workspace, room: str) -> None:
    response = await workspace.http.post(f"{workspace.command_url}/v1/runs", json={"room_id": room})
    if tokens.is_on():
        expect.problem(response, 401, "missing_token")
        expect.problem(await workspace.http.get(f"{workspace.query_url}/v1/runs"), 401, "missing_token")
        return
    answer = expect.accepted(response, 201)
    default = Workspace(workspace.http, workspace.command_url, workspace.query_url, "ws_dev")

    (event,) = await default.feed(room, answer["stream_seq"])
    await default.settle(room, 1)
    unnamed = await workspace.http.get(f"{workspace.query_url}/v1/runs", params={"room_id": room})

    expect.envelope(event, "ws_dev", room)
    assert event.event_id == answer["event_id"]
    assert [run["run_id"] for run in expect.page(unnamed, "runs")["runs"]] == [answer["run_id"]]
