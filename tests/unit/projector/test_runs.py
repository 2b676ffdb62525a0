"""The fold of runs and steps: given events, then these rows."""

from __future__ import annotations

import json

import pytest
from msgspec import UNSET

from services.projector.projections import base as projections
from services.projector.projections.base import Recorded, RoomEvents, Write
from services.projector.projections.forms import MAX_JSON, MAX_TEXT, FormError
from services.projector.projections.runs import ImpossibleEventError, Runs
from shared.contracts.upcasting import UndecodableEventError, UnknownEventError
from tests.integration.projector.history import RoomHistory, Stored

# fmt: off
INSERTED = (
    "run_id", "workspace_id", "room_id", "thread_id", "status", "title", "goal", "input", "output", "error",
    "summary", "tags", "created_at", "started_at", "ended_at", "updated_at", "correlation_id",
    "last_event_id", "stream_seq",
)
UPDATED = (
    "run_id", "workspace_id", "room_id", "status", "output", "error", "summary", "started_at", "ended_at", "updated_at",
    "last_event_id", "stream_seq",
)
STEPS = (
    "step_id", "run_id", "workspace_id", "room_id", "thread_id", "kind", "title", "input", "created_at",
    "last_event_id", "stream_seq",
)
# fmt: on
COLUMNS = {"runs_insert": INSERTED, "runs_update": UPDATED, "steps_insert": STEPS}


def fold(*histories: list[Stored]) -> dict[str, list[dict[str, object]]]:
    """Statement → rows."""
    rooms = [RoomEvents(events[0].key, [Recorded(e.seq, 0, e.envelope) for e in events]) for events in histories]
    return {write.query: rows(write) for write in projections.fold(Runs(), rooms)}


def rows(write: Write) -> list[dict[str, object]]:
    names = COLUMNS[write.query]
    assert len(names) == len(write.columns)
    return [dict(zip(names, values, strict=True)) for values in zip(*write.columns, strict=True)]


def at(event: Stored) -> str:
    return json.loads(event.envelope)["occurred_at"]


def test_nothing_gives_nothing() -> None:
    assert projections.fold(Runs(), []) == []


def test_a_created_run_is_queued() -> None:
    history = RoomHistory("room")
    created = history.created("run_1")
    assert fold([created]) == {
        "runs_insert": [
            {
                "run_id": "run_1",
                "workspace_id": "ws",
                "room_id": "room",
                "thread_id": "thread",
                "status": "queued",
                "title": "Run run_1",
                "goal": "to be seen",
                "input": '{"n":1,"text":"ü"}',
                "output": "{}",
                "error": "{}",
                "summary": None,
                "tags": '{"a\\"b","c\\\\,d"}',
                "created_at": at(created),
                "started_at": None,
                "ended_at": None,
                "updated_at": at(created),
                "correlation_id": "corr-run_1",
                "last_event_id": created.event_id,
                "stream_seq": 1,
            }
        ]
    }


def test_what_was_not_given_is_empty() -> None:
    bare = RoomHistory("room").created("run_1")
    members = json.loads(bare.envelope)
    members["data"] = {"run_id": "run_1", "unknown": "ignored"}
    members["thread_id"] = None
    (run,) = fold([bare._replace(envelope=json.dumps(members).encode())])["runs_insert"]
    assert (run["title"], run["goal"], run["input"], run["tags"], run["thread_id"]) == (None, None, "{}", "{}", None)


@pytest.mark.parametrize("end", ["completed", "failed"])
def test_a_run_in_one_batch_is_written_once(end: str) -> None:
    events = RoomHistory("room").run(steps=2, end=end)
    written = fold(events)
    (run,) = written["runs_insert"]
    assert "runs_update" not in written
    assert run["started_at"] == at(events[1])
    assert run["ended_at"] == run["updated_at"] == at(events[-1])
    assert (run["last_event_id"], run["stream_seq"]) == (events[-1].event_id, 5)
    if end == "completed":
        assert (run["status"], run["summary"], run["output"], run["error"]) == (
            "succeeded",
            "done",
            '{"answer":42}',
            "{}",
        )
    else:
        assert (run["status"], run["summary"], run["output"]) == ("failed", None, "{}")
        assert run["error"] == '{"message":"no luck"}'


def test_a_failure_with_an_error_keeps_it_as_it_is() -> None:
    failed = RoomHistory("room").failed("run_1")
    members = json.loads(failed.envelope)
    members["data"] = {"run_id": "run_1", "message": "no", "error": {"code": 7}}
    (run,) = fold([failed._replace(envelope=json.dumps(members).encode())])["runs_update"]
    assert run["error"] == '{"code":7}'


def test_later_batches_carry_only_what_moved() -> None:
    events = RoomHistory("room").run(steps=1)
    (started,) = fold([events[1]])["runs_update"]
    assert {name for name, value in started.items() if value is not None} == {
        "run_id",
        "workspace_id",
        "room_id",
        "status",
        "started_at",
        "updated_at",
        "last_event_id",
        "stream_seq",
    }
    (completed,) = fold([events[3]])["runs_update"]
    assert (completed["status"], completed["started_at"]) == ("succeeded", None)


def test_a_step_is_a_row_and_moves_its_run() -> None:
    events = RoomHistory("room").run(steps=1, end=None)
    step = events[2]
    written = fold([step])
    assert written["steps_insert"] == [
        {
            "step_id": json.loads(step.envelope)["step_id"],
            "run_id": step.run_id,
            "workspace_id": "ws",
            "room_id": "room",
            "thread_id": "thread",
            "kind": "tool",
            "title": "look",
            "input": '{"q":[1,2,null]}',
            "created_at": at(step),
            "last_event_id": step.event_id,
            "stream_seq": 3,
        }
    ]
    (run,) = written["runs_update"]
    assert (run["status"], run["last_event_id"], run["stream_seq"]) == (None, step.event_id, 3)


def test_rooms_do_not_mix() -> None:
    one, other = RoomHistory("one"), RoomHistory("other")
    written = fold(one.run(), other.run(end="failed"))
    assert [(run["room_id"], run["status"]) for run in written["runs_insert"]] == [
        ("one", "succeeded"),
        ("other", "failed"),
    ]


def test_what_another_room_says_of_a_run_is_no_change_of_it() -> None:
    own, other = RoomHistory("own"), RoomHistory("other", "ws_other")
    own.created("run_1")
    own.started("run_1")
    other.created("run_1")
    other.completed("run_2")
    own.created("run_2")
    written = fold(own.events, other.events)
    assert {(run["room_id"], run["run_id"], run["status"]) for run in written["runs_insert"]} == {
        ("own", "run_1", "running"),
        ("own", "run_2", "queued"),
        ("other", "run_1", "queued"),
    }
    (moved,) = written["runs_update"]
    assert (moved["workspace_id"], moved["room_id"], moved["run_id"]) == ("ws_other", "other", "run_2")


def test_a_run_cannot_be_created_twice() -> None:
    history = RoomHistory("room")
    with pytest.raises(ImpossibleEventError):
        fold([history.created("run_1"), history.created("run_1")])


def test_what_a_second_end_does_not_give_is_as_it_was() -> None:
    """As it is where the second comes in a batch of its own."""
    room = RoomHistory("room")
    room.created("run_1")
    room.failed("run_1")
    room.completed("run_1")
    room.failed("run_1", message=UNSET)
    again = room.completed("run_1", summary=UNSET, output=UNSET)
    (run,) = fold(room.events)["runs_insert"]
    (alone,) = fold([again])["runs_update"]
    assert (run["status"], run["summary"]) == ("succeeded", "done")
    assert (run["output"], run["error"]) == ('{"answer":42}', '{"message":"no luck"}')
    assert (alone["status"], alone["summary"], alone["output"], alone["error"]) == ("succeeded", None, None, None)


@pytest.mark.parametrize(
    "members",
    [
        {"event_id": "none"},
        {"occurred_at": "1999-12-31T23:59:59.999999Z"},
        {"occurred_at": "3000-01-01T00:00:00.000000Z"},
        {"data": {"run_id": "run_1", "summary": "a\0b"}},
        {"data": {"run_id": "run_1", "summary": "ü" * (MAX_TEXT // 2 + 1)}},
        {"data": {"run_id": "run_1", "output": {"x": "x" * MAX_JSON}}},
    ],
    ids=["an id that is none", "an early time", "a late time", "a NUL", "a long text", "long JSON"],
)
def test_what_later_events_would_hide_from_the_table_is_refused(members: dict[str, object]) -> None:
    event = RoomHistory("room").completed("run_1")
    envelope = json.dumps(json.loads(event.envelope) | members).encode()
    with pytest.raises(FormError):
        fold([event._replace(envelope=envelope)])


@pytest.mark.parametrize("at", ["2000-01-01T00:00:00.000000Z", "2999-12-31T23:59:59.999999Z"])
def test_the_first_and_the_last_time_that_the_tables_take(at: str) -> None:
    event = RoomHistory("room").started("run_1")
    envelope = json.dumps(json.loads(event.envelope) | {"occurred_at": at}).encode()
    (run,) = fold([event._replace(envelope=envelope)])["runs_update"]
    assert run["started_at"] == at


def test_an_envelope_from_elsewhere_is_refused() -> None:
    event = RoomHistory("room").created("run_1")
    with pytest.raises(ImpossibleEventError):
        fold([event._replace(seq=2)])
    with pytest.raises(ImpossibleEventError):
        fold([event._replace(key=RoomHistory("other").key)])


@pytest.mark.parametrize(
    ("envelope", "error"),
    [
        (b"", UndecodableEventError),
        (b"{}", UndecodableEventError),
        (b'{"event_type":"run.created","event_version":2}', UnknownEventError),
        (b'{"event_type":"run.paused","event_version":1}', UnknownEventError),
    ],
)
def test_what_cannot_be_read_is_refused(envelope: bytes, error: type[Exception]) -> None:
    with pytest.raises(error):
        fold([RoomHistory("room").garbage(envelope)])
