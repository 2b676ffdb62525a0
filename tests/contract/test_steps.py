"""A step is one event of its run, under one id that is neither its event's nor its run's."""

from __future__ import annotations

import asyncio
from uuid import UUID

from . import expect
from .client import Workspace


async def test_a_step_appears_in_the_room_of_its_run(workspace: Workspace, room: str) -> None:
    run = await workspace.running(room, thread_id="t1")
    given = {"kind": "tool.search", "title": "Look it up", "input": {"query": "q", "k": [1, 2]}}
    full = await workspace.step(run["run_id"], **given)
    bare = await workspace.step(run["run_id"], "think")

    *_, first, second = await workspace.feed(room, bare["stream_seq"])

    for event, answer in ((first, full), (second, bare)):
        expect.envelope(event, workspace.id, room)
        assert event.type == "step.created"
        assert event.run_id == run["run_id"]
        assert event.envelope["step_id"] == answer["step_id"]
        assert event.envelope["thread_id"] == "t1"
        assert event.event_id == answer["event_id"]
    assert first.envelope["data"] == {"step_id": full["step_id"], **given}
    assert second.envelope["data"] == {"step_id": bare["step_id"], "kind": "think"}


async def test_step_ids_are_distinct_and_no_event_ids(workspace: Workspace, room: str) -> None:
    run = await workspace.running(room)
    answers = await asyncio.gather(*(workspace.step(run["run_id"]) for _ in range(10)))

    step_ids = {expect.typeid(answer["step_id"], "step") for answer in answers}
    event_ids = {UUID(answer["event_id"]) for answer in answers}

    assert len(step_ids) == len(event_ids) == 10
    assert step_ids.isdisjoint(event_ids)
    assert expect.typeid(run["run_id"], "run") not in step_ids


async def test_the_id_a_step_was_answered_is_the_one_it_is_read_by(workspace: Workspace, room: str) -> None:
    run = await workspace.running(room)
    answers = [await workspace.step(run["run_id"], f"kind-{n}") for n in range(3)]

    page = await workspace.steps(run["run_id"], min_seq=answers[-1]["stream_seq"], wait=30_000)

    assert [step["step_id"] for step in page["steps"]] == [answer["step_id"] for answer in answers]
    assert [step["kind"] for step in page["steps"]] == ["kind-0", "kind-1", "kind-2"]
