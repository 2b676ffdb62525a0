"""The envelope's bytes: golden, so that a change of the wire format is a decision and not an accident."""

import json
from typing import Any

import pytest
from msgspec import UNSET

from shared.contracts.events import Event, RunCreated, RunCreatedData, StepCreated, StepCreatedData, encode_event
from shared.contracts.upcasting import EventRegistry, UndecodableEventError, UnknownEventError, registry

CREATED = RunCreated(
    event_id="01a20913-7fd0-74d2-a2b2-2fbca737d637",
    occurred_at="2026-01-01T00:00:00.000000Z",
    recorded_at="2026-01-01T00:00:00.000001Z",
    workspace_id="ws",
    room_id="r",
    thread_id=None,
    run_id="run_1",
    actor_type="agent",
    actor_id="a",
    stream_id="r",
    stream_seq=1,
    correlation_id="c",
    causation_id=None,
    data=RunCreatedData("run_1", title="T", input={"k": [1, None]}),
)

GOLDEN = (
    b'{"event_type":"run.created","event_id":"01a20913-7fd0-74d2-a2b2-2fbca737d637","event_version":1,'
    b'"occurred_at":"2026-01-01T00:00:00.000000Z","recorded_at":"2026-01-01T00:00:00.000001Z","workspace_id":"ws",'
    b'"room_id":"r","thread_id":null,"run_id":"run_1","step_id":null,"actor_type":"agent","actor_id":"a",'
    b'"stream_type":"room","stream_id":"r","stream_seq":1,"correlation_id":"c","causation_id":null,'
    b'"data":{"run_id":"run_1","title":"T","input":{"k":[1,null]}}}'
)


def changed(**members: object) -> bytes:
    return json.dumps(json.loads(GOLDEN) | members).encode()


def test_golden_bytes() -> None:
    assert encode_event(CREATED) == GOLDEN


def test_what_was_encoded_is_read_back() -> None:
    assert registry.decode(GOLDEN) == CREATED


def test_members_a_reader_does_not_know_are_ignored() -> None:
    data = {"run_id": "run_1", "later": True}
    event = registry.decode(changed(data=data, also_later=1))
    assert isinstance(event, RunCreated)
    assert event.data == RunCreatedData("run_1", title=UNSET)


@pytest.mark.parametrize("members", [{"event_version": 2}, {"event_type": "run.paused"}])
def test_an_unknown_event_is_never_guessed_at(members: dict[str, object]) -> None:
    with pytest.raises(UnknownEventError):
        registry.decode(changed(**members))


@pytest.mark.parametrize(
    "envelope", [b"", b"{}", b"null", b"\xff", GOLDEN[:-5], changed(stream_seq="1"), changed(data=[])]
)
def test_what_is_no_event_is_undecodable(envelope: bytes) -> None:
    with pytest.raises(UndecodableEventError):
        registry.decode(envelope)


def test_an_old_version_is_lifted_on_read() -> None:
    """As if version 0 of step.created had called ``kind`` ``type``."""

    def lift(members: dict[str, Any]) -> dict[str, Any]:
        data = dict(members["data"])
        data["kind"] = data.pop("type")
        return members | {"event_version": 1, "data": data}

    old = changed(event_type="step.created", event_version=0, step_id="s", data={"step_id": "s", "type": "tool"})
    event: Event = EventRegistry({("step.created", 0): lift}).decode(old)
    assert isinstance(event, StepCreated)
    assert event.data == StepCreatedData("s", "tool")
    with pytest.raises(UnknownEventError):
        registry.decode(old)
