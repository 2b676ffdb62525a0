"""One correlation id and one unforked chain of causes per run, one gapless order per room, however commands race."""

from __future__ import annotations

import asyncio
from uuid import UUID

from . import expect
from .client import Workspace


async def test_each_event_is_caused_by_the_one_before_it(workspace: Workspace, room: str) -> None:
    run = await workspace.running(room)
    for kind in ("plan", "act", "check"):
        await workspace.step(run["run_id"], kind)
    done = await workspace.complete(run["run_id"])

    events = await workspace.feed(room, done["stream_seq"])

    assert events[0].envelope["causation_id"] is None
    assert [e.envelope["causation_id"] for e in events[1:]] == [e.event_id for e in events[:-1]]


async def test_a_run_may_be_caused_by_an_event_of_another(workspace: Workspace, room: str) -> None:
    parent = await workspace.running(room)
    child = await workspace.create(room, causation_id=parent["event_id"])
    parent_done = await workspace.complete(parent["run_id"])
    child_started = await workspace.start(child["run_id"])

    *_, created, completed, started = await workspace.feed(room, child_started["stream_seq"])

    assert created.envelope["causation_id"] == parent["event_id"]
    assert completed.envelope["causation_id"] == parent["event_id"]
    assert started.envelope["causation_id"] == child["event_id"]
    assert parent_done["event_id"] == completed.event_id


async def test_parallel_steps_make_one_chain(workspace: Workspace, room: str) -> None:
    run = await workspace.running(room)

    answers = await asyncio.gather(*(workspace.step(run["run_id"], f"k{n}") for n in range(50)))

    assert sorted(a["stream_seq"] for a in answers) == list(range(3, 53)), "positions are gapless under concurrency"
    done = await workspace.complete(run["run_id"])
    events = await workspace.feed(room, done["stream_seq"])
    expect.gapless(events)
    expect.one_chain(events)
    causes = [event.envelope["causation_id"] for event in events[1:]]
    assert len(set(causes)) == len(causes), "no event is the cause of two"
    by_event = {answer["event_id"]: answer for answer in answers}
    for event in events[2:-1]:
        assert by_event[event.event_id]["stream_seq"] == event.seq
        assert by_event[event.event_id]["step_id"] == event.envelope["step_id"]


async def test_runs_in_one_room_share_its_order_and_keep_their_own_chains(workspace: Workspace, room: str) -> None:
    async def live() -> int:
        run = await workspace.running(room)
        await asyncio.gather(*(workspace.step(run["run_id"]) for _ in range(5)))
        return (await workspace.complete(run["run_id"]))["stream_seq"]

    last = max(await asyncio.gather(*(live() for _ in range(8))))

    events = await workspace.feed(room, last)
    assert last == 8 * 8
    expect.gapless(events)
    expect.one_chain(events)
    assert len({event.run_id for event in events}) == 8
    assert len({event.envelope["correlation_id"] for event in events}) == 8
    assert len({event.event_id for event in events}) == 64
    for run_id in {event.run_id for event in events}:
        types = [event.type for event in events if event.run_id == run_id]
        assert types == ["run.created", "run.started", *["step.created"] * 5, "run.completed"]


async def test_rooms_number_their_events_apart(workspace: Workspace, room: str) -> None:
    rooms = [f"{room}-{n}" for n in range(4)]

    runs = await asyncio.gather(*(workspace.running(name) for name in rooms))

    assert [run["stream_seq"] for run in runs] == [2] * 4
    for name, run in zip(rooms, runs, strict=True):
        events = await workspace.feed(name, 2)
        expect.gapless(events)
        assert {event.run_id for event in events} == {run["run_id"]}


async def test_a_given_correlation_id_is_on_every_event(workspace: Workspace, room: str) -> None:
    given = "trace:/42?x=~#" + "c" * 114
    run = await workspace.running(room, correlation_id=given)
    await asyncio.gather(*(workspace.step(run["run_id"]) for _ in range(3)))
    done = await workspace.fail(run["run_id"])

    events = await workspace.feed(room, done["stream_seq"])

    assert run["correlation_id"] == done["correlation_id"] == given
    assert {event.envelope["correlation_id"] for event in events} == {given}
    assert (await workspace.run(run["run_id"], done["stream_seq"]))["correlation_id"] == given


async def test_a_minted_correlation_id_is_a_uuid_on_every_event(workspace: Workspace, room: str) -> None:
    first = await workspace.running(room)
    other = await workspace.create(room)
    step = await workspace.step(first["run_id"])

    events = await workspace.feed(room, step["stream_seq"])

    assert UUID(first["correlation_id"])
    assert first["correlation_id"] != other["correlation_id"]
    assert {e.envelope["correlation_id"] for e in events if e.run_id == first["run_id"]} == {first["correlation_id"]}
