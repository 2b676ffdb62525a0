"""A read that names the position a command answered reflects it, or says that it cannot yet; it is never stale."""

from __future__ import annotations

import asyncio

import pytest

from . import expect
from .client import Workspace


async def test_each_read_reflects_the_command_just_answered(workspace: Workspace, room: str) -> None:
    for number in range(10):
        created = await workspace.create(room, title=f"run {number}")
        run_id = created["run_id"]
        assert (await workspace.run(run_id, created["stream_seq"]))["status"] == "queued"
        page = await workspace.runs(room_id=room, min_seq=created["stream_seq"], wait=30_000, limit=1)
        assert page["runs"][0]["run_id"] == run_id

        started = await workspace.start(run_id)
        assert (await workspace.run(run_id, started["stream_seq"]))["status"] == "running"

        step = await workspace.step(run_id)
        steps = await workspace.steps(run_id, min_seq=step["stream_seq"], wait=30_000)
        assert [row["step_id"] for row in steps["steps"]] == [step["step_id"]]

        done = await workspace.complete(run_id)
        page = await workspace.runs(room_id=room, status="succeeded", min_seq=done["stream_seq"], wait=30_000)
        assert len(page["runs"]) == number + 1


async def test_many_at_once_each_read_their_own(workspace: Workspace, room: str) -> None:
    async def live(number: int) -> None:
        own_room = room if number % 2 else f"{room}-{number}"
        run = await workspace.running(own_room)
        assert (await workspace.run(run["run_id"], run["stream_seq"]))["status"] == "running"
        done = await workspace.fail(run["run_id"], message=str(number))
        row = await workspace.run(run["run_id"], done["stream_seq"])
        assert (row["status"], row["error"]) == ("failed", {"message": str(number)})

    await asyncio.gather(*(live(number) for number in range(20)))


async def test_a_read_waits_for_a_position_still_to_come(workspace: Workspace, room: str) -> None:
    run = await workspace.create(room)
    await workspace.settle(room, 1)

    async with asyncio.TaskGroup() as group:
        row = group.create_task(workspace.run(run["run_id"], 2))
        page = group.create_task(workspace.runs(room_id=room, status="running", min_seq=2, wait=30_000))
        steps = group.create_task(workspace.steps(run["run_id"], min_seq=3, wait=30_000))
        await workspace.run(run["run_id"], 1)
        await workspace.start(run["run_id"])
        await workspace.step(run["run_id"])

    assert row.result()["status"] == "running"
    assert [found["run_id"] for found in page.result()["runs"]] == [run["run_id"]]
    assert len(steps.result()["steps"]) == 1


async def test_a_read_of_a_run_waits_for_its_creation(workspace: Workspace, room: str) -> None:
    """The position is the answer's own, so the run is there by the time it is reflected: never a 404 before that."""
    runs = await asyncio.gather(*(workspace.create(room) for _ in range(10)))

    rows = await asyncio.gather(*(workspace.run(run["run_id"], run["stream_seq"]) for run in runs))

    assert [row["run_id"] for row in rows] == [run["run_id"] for run in runs]


@pytest.mark.parametrize("wait", [0, 1, 100])
async def test_a_position_that_is_not_there_is_behind(workspace: Workspace, room: str, wait: int) -> None:
    run = await workspace.running(room)
    await workspace.settle(room, 2)
    params = {"min_seq": 1000, "wait": wait}

    responses = [
        await workspace.get("/v1/runs", params | {"room_id": room}),
        await workspace.get(f"/v1/runs/{run['run_id']}", params),
        await workspace.get(f"/v1/runs/{run['run_id']}/steps", params),
    ]

    for response in responses:
        body = expect.problem(response, 503, "projection_behind")
        assert int(response.headers["retry-after"]) >= 0
        position = [value for name, value in body.items() if name not in expect.PROBLEM]
        assert 2 in position or "2" in body["detail"].replace("1000", ""), "the current position is told"


async def test_without_a_wait_of_its_own_a_read_waits_a_little(workspace: Workspace, room: str) -> None:
    run = await workspace.create(room)
    path = f"/v1/runs/{run['run_id']}"

    row = await workspace.get(path, {"min_seq": 1})
    behind = await workspace.get(path, {"min_seq": 2})
    now = await workspace.get(path)

    assert row.json()["run"]["stream_seq"] == 1
    expect.problem(behind, 503, "projection_behind")
    assert now.json() == row.json(), "a position that never comes harms nobody who does not ask for it"


async def test_a_position_in_a_room_nobody_wrote_to_is_behind(workspace: Workspace, room: str) -> None:
    response = await workspace.get("/v1/runs", {"room_id": room, "min_seq": 1, "wait": 0})

    expect.problem(response, 503, "projection_behind")
    assert "retry-after" in response.headers


async def test_a_run_unknown_at_a_position_is_behind_and_not_missing(workspace: Workspace) -> None:
    run_id = expect.nobodys("run")

    for path in (f"/v1/runs/{run_id}", f"/v1/runs/{run_id}/steps"):
        response = await workspace.get(path, {"min_seq": 1, "wait": 0})
        expect.problem(response, 503, "projection_behind")


async def test_position_nought_is_always_there(workspace: Workspace, room: str) -> None:
    run = await workspace.create(room)
    await workspace.settle(room, 1)

    assert expect.page(await workspace.get("/v1/runs", {"room_id": room, "min_seq": 0}), "runs")["runs"]
    assert (await workspace.get(f"/v1/runs/{run['run_id']}", {"min_seq": 0})).status_code == 200


async def test_the_longest_wait_is_thirty_seconds(workspace: Workspace, room: str) -> None:
    """Asking for more is refused or cut short; a position that is there is answered at once either way."""
    await workspace.create(room)
    await workspace.settle(room, 1)

    allowed = await workspace.get("/v1/runs", {"room_id": room, "min_seq": 1, "wait": 30_000})
    beyond = await workspace.get("/v1/runs", {"room_id": room, "min_seq": 1, "wait": 30_001})

    expect.page(allowed, "runs")
    if beyond.status_code != 200:
        assert "wait" in expect.problem(beyond, 400, "invalid_request")["detail"]
