"""A batch decides as if its commands had come one after another."""

from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.command.domain.batch import Accepted, IdempotencyKey, Loaded, Plan, Request, StoredOutcome, plan
from services.command.domain.commands import Command, CompleteRun, CreateRun, CreateStep, StartRun
from services.command.domain.decide import Caller, Refusal, run_not_found
from services.command.domain.run import RunState
from shared.contracts.ids import RoomKey
from tests.unit.command.given import CALLER, TIME, CountingIds

NOW = datetime(2026, 1, 1, tzinfo=UTC)
KEEP = timedelta(hours=24)
ROOM = RoomKey("ws", "r")


def request(command: Command, key: str | None = None, fingerprint: bytes = b"f", caller: Caller = CALLER) -> Request:
    return Request(caller, command, TIME, IdempotencyKey(key, fingerprint) if key else None)


def running(run_id: str = "run_1", workspace_id: str = "ws") -> RunState:
    return RunState(
        run_id=run_id,
        workspace_id=workspace_id,
        room_id="r",
        thread_id=None,
        status="running",
        version=2,
        last_event_id="e2",
        correlation_id="c",
    )


def loaded(last_seq: int = 0, *runs: RunState) -> Loaded:
    return Loaded({ROOM: last_seq}, {run.run_id: run for run in runs}, {})


def decided(requests: list[Request], state: Loaded) -> Plan:
    return plan(requests, state, NOW, CountingIds(), KEEP)


def test_numbers_go_on_from_the_rooms_last_without_a_gap() -> None:
    requests = [
        request(CreateRun(room_id="r")),
        request(StartRun(run_id="nobody")),
        request(CreateRun(room_id="r")),
    ]
    drafted = decided(requests, loaded(7))
    assert [new.event.stream_seq for new in drafted.events] == [8, 9]
    assert drafted.rooms == {ROOM: 9}
    assert isinstance(drafted.outcomes[1], Refusal)


def test_a_command_sees_what_those_before_it_did() -> None:
    requests = [
        request(CompleteRun(run_id="run_1")),
        request(CreateStep(run_id="run_1", kind="late")),
    ]
    drafted = decided(requests, loaded(2, running()))
    outcome = drafted.outcomes[1]
    assert isinstance(outcome, Refusal)
    assert outcome.error == "run_not_running"
    assert drafted.runs["run_1"].status == "succeeded"


def test_concurrent_steps_make_one_chain() -> None:
    drafted = decided([request(CreateStep(run_id="run_1", kind="k")) for _ in range(5)], loaded(2, running()))
    ids = [new.event.event_id for new in drafted.events]
    assert [new.event.causation_id for new in drafted.events] == ["e2", *ids[:-1]]


def test_another_workspaces_run_is_not_found_and_changes_nothing() -> None:
    drafted = decided([request(StartRun(run_id="run_1"))], loaded(2, running(workspace_id="other")))
    outcome = drafted.outcomes[0]
    assert isinstance(outcome, Refusal)
    assert outcome.error == "run_not_found"
    assert not drafted.events


def test_one_key_twice_in_a_batch_is_one_event_and_one_answer() -> None:
    create = CreateRun(room_id="r")
    drafted = decided([request(create, "k"), request(create, "k")], loaded())
    first, second = drafted.outcomes
    assert isinstance(first, Accepted)
    assert second == first._replace(replayed=True)
    assert len(drafted.events) == 1
    assert drafted.accepted_event_ids[1] is None


def test_one_key_with_another_body_is_refused() -> None:
    drafted = decided([request(CreateRun(room_id="r"), "k"), request(CreateRun(room_id="r"), "k", b"other")], loaded())
    outcome = drafted.outcomes[1]
    assert isinstance(outcome, Refusal)
    assert outcome.error == "idempotency_key_reused"


def test_the_same_key_in_another_workspace_is_another_key() -> None:
    other = Caller("other", "service", "api")
    state = Loaded({ROOM: 0, RoomKey("other", "r"): 0}, {}, {})
    drafted = decided([request(CreateRun(room_id="r"), "k"), request(CreateRun(room_id="r"), "k", caller=other)], state)
    assert len(drafted.events) == 2


def test_a_refusal_stores_nothing_under_its_key() -> None:
    drafted = decided([request(StartRun(run_id="nobody"), "k")], loaded())
    assert not drafted.stored


def test_a_stored_outcome_is_given_again_until_its_time_is_over() -> None:
    response = b'{"ok":true,"run_id":"run_9","event_id":"e","room_id":"r","stream_seq":1,"correlation_id":"c"}'
    for expires_at, replayed in ((NOW + timedelta(seconds=1), True), (NOW, False)):
        state = loaded()
        state.outcomes["ws", "k"] = StoredOutcome(b"f", 201, response, expires_at)
        outcome = decided([request(CreateRun(room_id="r"), "k")], state).outcomes[0]
        assert isinstance(outcome, Accepted)
        assert outcome.replayed is replayed
        assert (outcome.location == "/v1/runs/run_9") is replayed


@pytest.mark.parametrize("run_id", ["", "a b", "../other", "é", r"a\r\nSet-Cookie: a=b", "a" * 129])
def test_a_stored_outcome_of_a_run_that_cannot_be_is_malformed(run_id: str) -> None:
    body = f'{{"ok":true,"run_id":"{run_id}","event_id":"e","room_id":"r","stream_seq":1,"correlation_id":"c"}}'
    state = loaded()
    state.outcomes["ws", "k"] = StoredOutcome(b"f", 201, body.encode(), NOW + timedelta(seconds=1))
    with pytest.raises(ValueError, match="malformed"):
        decided([request(CreateRun(room_id="r"), "k")], state)


def test_the_answer_says_where_the_event_stands() -> None:
    drafted = decided([request(CreateStep(run_id="run_1", kind="k"))], loaded(2, running()))
    outcome = drafted.outcomes[0]
    assert isinstance(outcome, Accepted)
    event = drafted.events[0].event
    assert msgspec.json.decode(outcome.response) == {
        "ok": True,
        "run_id": "run_1",
        "step_id": event.step_id,
        "event_id": event.event_id,
        "room_id": "r",
        "stream_seq": 3,
        "correlation_id": "c",
    }
    assert (outcome.status, outcome.location) == (201, None)


commands = st.sampled_from(
    [
        CreateRun(room_id="r"),
        StartRun(run_id="run_1"),
        CompleteRun(run_id="run_1"),
        CreateStep(run_id="run_1", kind="k"),
        StartRun(run_id="nobody"),
    ]
)


@given(st.lists(commands, max_size=30), st.data())
def test_where_a_batch_is_cut_makes_no_difference(sequence: list[Command], data: st.DataObject) -> None:
    cut = data.draw(st.integers(0, len(sequence)))
    requests = [request(command) for command in sequence]
    at_once = decided(requests, loaded(2, running()))
    ids, state = CountingIds(), loaded(2, running())
    pieces = [plan(part, state, NOW, ids, KEEP) for part in (requests[:cut], requests[cut:])]
    assert [outcome for piece in pieces for outcome in piece.outcomes] == at_once.outcomes
    assert [new for piece in pieces for new in piece.events] == at_once.events


LIMITED = CALLER._replace(rooms=frozenset({"elsewhere"}))


def test_a_run_in_a_room_that_is_closed_to_the_caller_is_not_found_and_stays_as_it_is() -> None:
    requests = [
        request(command, key, caller=LIMITED)
        for command in (StartRun(run_id="run_1"), CreateStep(run_id="run_1", kind="k"), StartRun(run_id="nobody"))
        for key in (None, "k")
    ]
    drafted = decided(requests, loaded(2, running()))
    assert set(drafted.outcomes) == {run_not_found()}
    assert not drafted.events
    assert not drafted.stored


def test_a_stored_outcome_is_not_given_again_where_the_room_is_closed_to_the_caller() -> None:
    step = CreateStep(run_id="run_1", kind="k")
    open_to_it = LIMITED._replace(rooms=frozenset({"elsewhere", "r"}))
    drafted = decided(
        [request(step, "k"), request(step, "k", caller=LIMITED), request(step, "k", caller=open_to_it)],
        loaded(2, running()),
    )
    first, second, third = drafted.outcomes
    assert isinstance(first, Accepted)
    assert second == run_not_found()
    assert third == first._replace(replayed=True)
    assert len(drafted.events) == 1


def test_the_rooms_that_are_open_to_the_caller_are_those_of_its_workspace() -> None:
    stranger = Caller("other", "service", "api", frozenset({"r"}))
    drafted = decided([request(StartRun(run_id="run_1"), caller=stranger)], loaded(2, running()))
    assert drafted.outcomes == [run_not_found()]
