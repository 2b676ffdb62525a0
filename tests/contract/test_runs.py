"""A run is recorded as events of its room, under one id that is not an event's, and its answers point at them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from uuid import UUID

import pytest

from . import expect, tokens
from .client import Workspace

CREATED = {
    "thread_id": "thread-1",
    "title": "Quarterly report · 四半期 🧾",
    "goal": 'Numbers\nwith\ttabs, "quotes", \\slashes\\ and \u2028 separators',
    "input": {"depth": {"list": [1, 2.5, None, True, "x"], "empty": {}}},
    "tags": ["finance", "q3", "ünïcode"],
}


async def test_a_whole_run_appears_in_its_room(workspace: Workspace, room: str) -> None:
    created = await workspace.create(room, **CREATED)
    await workspace.start(created["run_id"])
    completed = await workspace.complete(created["run_id"], summary="done", output={"total": 42})

    events = await workspace.feed(room, completed["stream_seq"])

    expect.gapless(events)
    for event in events:
        expect.envelope(event, workspace.id, room)
        assert event.envelope["thread_id"] == "thread-1"
        assert event.envelope["step_id"] is None
    assert [event.type for event in events] == ["run.created", "run.started", "run.completed"]
    run_id = created["run_id"]
    asked = {name: value for name, value in CREATED.items() if name != "thread_id"}
    assert events[0].envelope["data"] == {"run_id": run_id, **asked}
    assert events[1].envelope["data"] == {"run_id": run_id}
    assert events[2].envelope["data"] == {"run_id": run_id, "summary": "done", "output": {"total": 42}}


async def test_members_nobody_gave_are_null_in_the_envelope_and_absent_in_its_data(
    workspace: Workspace, room: str
) -> None:
    created = await workspace.create(room)
    failed = await workspace.fail(created["run_id"])

    first, last = await workspace.feed(room, failed["stream_seq"])

    for event in (first, last):
        expect.envelope(event, workspace.id, room)
        assert event.envelope["thread_id"] is None
        assert event.envelope["step_id"] is None
        assert event.envelope["data"] == {"run_id": created["run_id"]}
    assert first.envelope["causation_id"] is None
    assert (first.type, last.type) == ("run.created", "run.failed")


@pytest.mark.parametrize(
    "given",
    [{"message": "no budget"}, {"error": {"code": "E1", "retry": False}}, {"message": "m", "error": {"code": 7}}],
)
async def test_a_failure_keeps_what_it_was_given(workspace: Workspace, room: str, given: dict[str, object]) -> None:
    created = await workspace.create(room)
    failed = await workspace.fail(created["run_id"], **given)

    *_, event = await workspace.feed(room, failed["stream_seq"])

    assert event.type == "run.failed"
    assert event.envelope["data"] == {"run_id": created["run_id"], **given}


async def test_every_answer_names_the_event_it_stands_for(workspace: Workspace, room: str) -> None:
    created = await workspace.create(room)
    run_id = created["run_id"]
    answers = [created, await workspace.start(run_id), await workspace.step(run_id), await workspace.complete(run_id)]

    events = await workspace.feed(room, answers[-1]["stream_seq"])

    for answer, event in zip(answers, events, strict=True):
        assert answer["run_id"] == event.run_id == run_id
        assert answer["event_id"] == event.event_id
        assert answer["stream_seq"] == event.seq
        assert answer["room_id"] == event.envelope["room_id"] == room
        assert answer["correlation_id"] == event.envelope["correlation_id"]
        assert answer.get("step_id") == event.envelope["step_id"]


async def test_run_ids_are_stable_sort_by_creation_and_are_no_event_ids(workspace: Workspace, room: str) -> None:
    answers = [await workspace.create(room) for _ in range(5)]
    last = await workspace.start(answers[0]["run_id"])

    events = await workspace.feed(room, last["stream_seq"])

    run_ids = [answer["run_id"] for answer in answers]
    assert len(set(run_ids)) == 5
    minted = [expect.typeid(run_id, "run").int >> 80 for run_id in run_ids]
    assert minted == sorted(minted), "the millisecond in an id grows with creation"
    assert [event.run_id for event in events] == [*run_ids, run_ids[0]]
    event_ids = {UUID(event.event_id) for event in events}
    assert len(event_ids) == 6
    assert event_ids.isdisjoint(expect.typeid(run_id, "run") for run_id in run_ids)


async def test_a_created_run_has_a_location(workspace: Workspace, room: str) -> None:
    response = await workspace.post("/v1/runs", {"room_id": room})

    run_id = expect.accepted(response, 201)["run_id"]

    assert response.headers["location"] == f"/v1/runs/{run_id}"


async def test_a_body_may_come_in_pieces(workspace: Workspace, room: str) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for byte in f'{{"room_id": "{room}", "title": "é"}}'.encode():
            yield bytes([byte])

    answer = expect.accepted(await workspace.post("/v1/runs", content=pieces()), 201)

    (event,) = await workspace.feed(room, answer["stream_seq"])
    assert event.envelope["data"]["title"] == "é"


@pytest.mark.parametrize("actor_type", ["service", "user", "agent"])
async def test_the_actor_is_the_tokens_or_the_one_the_headers_name(
    workspace: Workspace, room: str, actor_type: str
) -> None:
    headers = {"x-actor-type": actor_type, "x-actor-id": "planner-7"}
    answer = expect.accepted(await workspace.post("/v1/runs", {"room_id": room}, headers=headers), 201)

    (event,) = await workspace.feed(room, answer["stream_seq"])

    named = (tokens.ACTOR_TYPE, tokens.SUBJECT) if tokens.is_on() else (actor_type, "planner-7")
    assert (event.envelope["actor_type"], event.envelope["actor_id"]) == named


async def test_the_actor_is_the_tokens_or_the_api_when_nobody_says(workspace: Workspace, room: str) -> None:
    answer = await workspace.create(room)

    (event,) = await workspace.feed(room, answer["stream_seq"])

    named = (tokens.ACTOR_TYPE, tokens.SUBJECT) if tokens.is_on() else ("service", "api")
    assert (event.envelope["actor_type"], event.envelope["actor_id"]) == named


@pytest.mark.parametrize("room_id", ["a", "Z-9_", "x" * 128, "-", "_"])
async def test_a_room_id_is_any_of_the_allowed_characters(workspace: Workspace, room_id: str) -> None:
    answer = await workspace.create(room_id, thread_id=room_id)

    (event,) = await workspace.feed(room_id, answer["stream_seq"])

    expect.envelope(event, workspace.id, room_id)
    assert event.envelope["thread_id"] == room_id


@pytest.mark.parametrize("verb", ["start", "complete", "fail"])
@pytest.mark.parametrize("content", [None, b"", b"{}", b" { } "], ids=["none", "empty", "object", "spaced"])
async def test_an_empty_body_is_an_empty_object(
    workspace: Workspace, room: str, verb: str, content: bytes | None
) -> None:
    run = await workspace.create(room)

    expect.accepted(await workspace.post(f"/v1/runs/{run['run_id']}/{verb}", content=content), 200)
