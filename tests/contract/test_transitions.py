"""A run moves only along the allowed transitions, and a refused command leaves no event behind."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from . import expect
from .client import Workspace

BODIES: dict[str, Any] = {"start": {}, "complete": {"summary": "s"}, "fail": {"message": "m"}, "steps": {"kind": "k"}}
REACH = {"queued": [], "running": ["start"], "succeeded": ["start", "complete"], "failed": ["start", "fail"]}
ALLOWED = {
    ("queued", "start"), ("queued", "complete"), ("queued", "fail"),
    ("running", "complete"), ("running", "fail"), ("running", "steps"),
}  # fmt: skip
# A command on a run that ended fails for two reasons, and the contract names both.
REFUSED = {
    ("queued", "steps"): {"run_not_running"},
    ("running", "start"): {"run_not_queued"},
    **{(end, "start"): {"run_not_queued", "run_already_ended"} for end in ("succeeded", "failed")},
    **{(end, "steps"): {"run_not_running", "run_already_ended"} for end in ("succeeded", "failed")},
    **{(end, verb): {"run_already_ended"} for end in ("succeeded", "failed") for verb in ("complete", "fail")},
}


async def brought_to(workspace: Workspace, room: str, state: str) -> dict[str, Any]:
    """Create a run in the state; return the answer to its last command."""
    answer = await workspace.create(room)
    for verb in REACH[state]:
        answer = expect.accepted(await workspace.post(f"/v1/runs/{answer['run_id']}/{verb}", BODIES[verb]), 200)
    return answer


@pytest.mark.parametrize("verb", BODIES)
@pytest.mark.parametrize("state", REACH)
async def test_each_command_in_each_state(workspace: Workspace, room: str, state: str, verb: str) -> None:
    run = await brought_to(workspace, room, state)

    response = await workspace.post(f"/v1/runs/{run['run_id']}/{verb}", BODIES[verb])

    if (state, verb) in ALLOWED:
        answer = expect.accepted(response, 201 if verb == "steps" else 200, step=verb == "steps")
        assert answer["stream_seq"] == run["stream_seq"] + 1
    else:
        expect.problem(response, 409, *REFUSED[state, verb])
        after = await workspace.create(room)
        assert after["stream_seq"] == run["stream_seq"] + 1, "a refused command takes no position"
        row = await workspace.run(run["run_id"], after["stream_seq"])
        assert (row["status"], row["last_event_id"]) == (state, run["event_id"])


async def test_a_run_completed_while_queued_succeeded_without_starting(workspace: Workspace, room: str) -> None:
    run = await workspace.create(room)
    done = await workspace.complete(run["run_id"])

    row = await workspace.run(run["run_id"], done["stream_seq"])

    assert (row["status"], row["started_at"]) == ("succeeded", None)
    assert row["ended_at"] is not None


async def test_of_many_starts_at_once_one_wins(workspace: Workspace, room: str) -> None:
    run = await workspace.create(room)

    responses = await asyncio.gather(*(workspace.post(f"/v1/runs/{run['run_id']}/start") for _ in range(12)))

    assert sorted(response.status_code for response in responses) == [200] + [409] * 11
    for response in responses:
        if response.status_code == 409:
            expect.problem(response, 409, "run_not_queued")


async def test_of_many_endings_at_once_one_wins_and_nothing_follows_it(workspace: Workspace, room: str) -> None:
    run = await workspace.running(room)
    path = f"/v1/runs/{run['run_id']}"
    verbs = ["complete", "steps", "fail", "steps"] * 6

    responses = await asyncio.gather(*(workspace.post(f"{path}/{verb}", BODIES[verb]) for verb in verbs))

    wins = [r.json() for r in responses if r.status_code < 300]
    endings = [r for verb, r in zip(verbs, responses, strict=True) if verb != "steps" and r.status_code == 200]
    assert len(endings) == 1
    for response in responses:
        if response.status_code >= 300:
            expect.problem(response, 409, "run_already_ended", "run_not_running")
    last = max(answer["stream_seq"] for answer in wins)
    assert endings[0].json()["stream_seq"] == last == run["stream_seq"] + len(wins)
    events = await workspace.feed(room, last)
    assert [event.type for event in events if event.type in {"run.completed", "run.failed"}] == [events[-1].type]
