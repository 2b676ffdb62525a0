"""A read shows what the events of a run and its steps add up to, member by member, after every one of them."""

from __future__ import annotations

from typing import Any

import pytest

from . import expect
from .client import Workspace
from .sse import Event

GIVEN = {
    "thread_id": "thread-1",
    "title": "A title · 題",
    "goal": "A goal",
    "input": {"a": [1, 2.5, None, True], "b": {"c": "d"}, "e": {}},
    "tags": ["b", "a"],
    "correlation_id": "corr-1",
}


async def row_and_event(workspace: Workspace, room: str, answer: dict[str, Any]) -> tuple[dict[str, Any], Event]:
    """Read the run after the answered event, and that event."""
    row = await workspace.run(answer["run_id"], answer["stream_seq"])
    assert row.keys() == expect.RUN
    (event,) = await workspace.feed(room, answer["stream_seq"], answer["stream_seq"] - 1)
    return row, event


def at(event: Event, text: str) -> bool:
    """Whether a time of a row is the time of the event."""
    return expect.instant(text) in {expect.instant(event.envelope[name]) for name in ("occurred_at", "recorded_at")}


async def test_every_member_of_a_run_after_every_transition(workspace: Workspace, room: str) -> None:
    created = await workspace.create(room, **GIVEN)
    row, event = await row_and_event(workspace, room, created)
    queued = {
        **GIVEN, "run_id": created["run_id"], "workspace_id": workspace.id, "room_id": room, "status": "queued",
        "output": {}, "error": {}, "summary": None, "started_at": None, "ended_at": None,
    }  # fmt: skip
    assert row.items() >= queued.items()
    assert at(event, row["created_at"])
    assert (row["last_event_id"], row["stream_seq"]) == (created["event_id"], 1)
    created_at = row["created_at"]

    started = await workspace.start(created["run_id"])
    row, event = await row_and_event(workspace, room, started)
    running = queued | {"status": "running", "started_at": row["started_at"], "created_at": created_at}
    assert row.items() >= running.items()
    assert at(event, row["started_at"])
    assert at(event, row["updated_at"])
    assert (row["last_event_id"], row["stream_seq"]) == (started["event_id"], 2)

    completed = await workspace.complete(created["run_id"], summary="all well", output={"n": 1})
    row, event = await row_and_event(workspace, room, completed)
    ended = running | {"status": "succeeded", "summary": "all well", "output": {"n": 1}, "ended_at": row["ended_at"]}
    assert row.items() >= ended.items()
    assert at(event, row["ended_at"])
    assert at(event, row["updated_at"])
    assert (row["last_event_id"], row["stream_seq"]) == (completed["event_id"], 3)


async def test_what_nobody_gave_is_null_or_empty(workspace: Workspace, room: str) -> None:
    created = await workspace.create(room)

    row, _ = await row_and_event(workspace, room, created)

    assert row["input"] == row["output"] == row["error"] == {}
    assert row["tags"] == []
    for name in ("thread_id", "title", "goal", "summary", "started_at", "ended_at"):
        assert row[name] is None, name


@pytest.mark.parametrize(
    ("given", "error"),
    [
        ({"message": "no budget"}, {"message": "no budget"}),
        ({"error": {"code": "E1", "at": [1]}}, {"code": "E1", "at": [1]}),
        ({"message": "m", "error": {"message": "own", "code": 1}}, {"message": "own", "code": 1}),
        ({}, {}),
    ],
    ids=["message", "error", "both", "neither"],
)
async def test_a_failed_run_shows_its_error(
    workspace: Workspace, room: str, given: dict[str, Any], error: dict[str, Any]
) -> None:
    run = await workspace.running(room, title="t")
    failed = await workspace.fail(run["run_id"], **given)

    row, event = await row_and_event(workspace, room, failed)

    assert (row["status"], row["error"], row["output"], row["summary"]) == ("failed", error, {}, None)
    assert at(event, row["ended_at"])
    assert row["title"] == "t"
    assert row["started_at"] is not None


async def test_a_run_completed_with_nothing_shows_nothing(workspace: Workspace, room: str) -> None:
    run = await workspace.create(room)
    done = await workspace.complete(run["run_id"])

    row, _ = await row_and_event(workspace, room, done)

    assert (row["status"], row["output"], row["summary"], row["error"]) == ("succeeded", {}, None, {})


async def test_every_member_of_a_step(workspace: Workspace, room: str) -> None:
    run = await workspace.running(room, thread_id="t1")
    given = {"kind": "tool.search", "title": "Look", "input": {"q": {"x": []}}}
    full = await workspace.step(run["run_id"], **given)
    bare = await workspace.step(run["run_id"], "think")

    first, second = (await workspace.steps(run["run_id"], min_seq=bare["stream_seq"], wait=30_000))["steps"]

    *_, event_full, event_bare = await workspace.feed(room, bare["stream_seq"])
    shared = {
        "run_id": run["run_id"], "workspace_id": workspace.id, "room_id": room, "thread_id": "t1", "status": "queued",
        "output": {}, "error": {},
    }  # fmt: skip
    for step, answer, event, more in (
        (first, full, event_full, given),
        (second, bare, event_bare, {"kind": "think", "title": None, "input": {}}),
    ):
        assert step.items() >= (shared | more).items()
        assert (step["step_id"], step["last_event_id"]) == (answer["step_id"], answer["event_id"])
        assert step["stream_seq"] == answer["stream_seq"]
        assert at(event, step["created_at"])
        assert at(event, step["updated_at"])


async def test_a_step_leaves_its_run_as_it_was(workspace: Workspace, room: str) -> None:
    run = await workspace.running(room, title="t")
    before = await workspace.run(run["run_id"], run["stream_seq"])
    step = await workspace.step(run["run_id"], input={"a": 1})

    after = await workspace.run(run["run_id"], step["stream_seq"])

    moving = {"updated_at", "last_event_id", "stream_seq"}
    assert {k: v for k, v in after.items() if k not in moving} == {k: v for k, v in before.items() if k not in moving}
    # A step is an event of the run; whether it counts as applied to the run's own row is the deployment's choice.
    own, steps = (run["event_id"], run["stream_seq"]), (step["event_id"], step["stream_seq"])
    assert (after["last_event_id"], after["stream_seq"]) in {own, steps}


async def test_the_end_of_a_run_leaves_its_steps_as_they_were(workspace: Workspace, room: str) -> None:
    run = await workspace.running(room)
    step = await workspace.step(run["run_id"])
    before = await workspace.steps(run["run_id"], min_seq=step["stream_seq"], wait=30_000)
    done = await workspace.complete(run["run_id"])

    after = await workspace.steps(run["run_id"], min_seq=done["stream_seq"], wait=30_000)

    assert after == before


async def test_a_run_has_the_same_shape_in_the_list(workspace: Workspace, room: str) -> None:
    run = await workspace.running(room, **GIVEN)
    row = await workspace.run(run["run_id"], run["stream_seq"])

    assert (await workspace.runs(room_id=room))["runs"] == [row]


async def test_a_run_without_steps_has_an_empty_page(workspace: Workspace, room: str) -> None:
    run = await workspace.create(room)

    page = await workspace.steps(run["run_id"], min_seq=run["stream_seq"], wait=30_000)

    assert page == {"steps": [], "next_cursor": None}


async def test_a_workspace_without_runs_has_an_empty_page(workspace: Workspace) -> None:
    assert await workspace.runs() == {"runs": [], "next_cursor": None}
