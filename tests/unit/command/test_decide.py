"""What each command leads to in each state of a run."""

import pytest
from msgspec import UNSET

from services.command.domain.commands import CompleteRun, CreateRun, CreateStep, FailRun, RunCommand, StartRun
from services.command.domain.decide import Refusal
from services.command.domain.run import RunState, evolve
from shared.contracts.events import RunCompleted, RunCreated, RunFailed, RunStarted, StepCreated
from tests.unit.command.given import Story

START = StartRun(run_id="run_1")
COMPLETE = CompleteRun(run_id="run_1")
FAIL = FailRun(run_id="run_1")
STEP = CreateStep(run_id="run_1", kind="tool")

ROADS: dict[str, list[RunCommand]] = {
    "queued": [],
    "running": [START],
    "succeeded": [START, COMPLETE],
    "failed": [START, FAIL],
}

ALLOWED = {
    ("queued", START): (RunStarted, "running"),
    ("queued", COMPLETE): (RunCompleted, "succeeded"),
    ("queued", FAIL): (RunFailed, "failed"),
    ("running", COMPLETE): (RunCompleted, "succeeded"),
    ("running", FAIL): (RunFailed, "failed"),
    ("running", STEP): (StepCreated, "running"),
}

REFUSED = {START: "run_not_queued", COMPLETE: "run_already_ended", FAIL: "run_already_ended", STEP: "run_not_running"}


def story_at(status: str) -> Story:
    story = Story()
    story.when(CreateRun(room_id="r"))
    for command in ROADS[status]:
        story.when(command)
    assert story.state is not None
    assert story.state.status == status
    return story


@pytest.mark.parametrize("status", ROADS)
@pytest.mark.parametrize("command", [START, COMPLETE, FAIL, STEP], ids=lambda command: type(command).__name__)
def test_every_command_in_every_state(status: str, command: RunCommand) -> None:
    story = story_at(status)
    before = story.state
    outcome = story.when(command)
    expected = ALLOWED.get((status, command))
    assert story.state is not None
    if expected is None:
        assert isinstance(outcome, Refusal)
        assert outcome.error == REFUSED[command]
        assert story.state is before
    else:
        assert isinstance(outcome, expected[0])
        assert story.state.status == expected[1]


def test_commands_on_a_run_that_does_not_exist_are_refused() -> None:
    outcome = Story().when(START)
    assert isinstance(outcome, Refusal)
    assert outcome.error == "run_not_found"


def test_the_chain_of_causes_is_one_line() -> None:
    story = story_at("succeeded")
    assert [event.causation_id for event in story.events] == [None, *[event.event_id for event in story.events[:-1]]]


def test_a_cause_and_a_correlation_given_at_create_are_kept() -> None:
    story = Story()
    story.when(CreateRun(room_id="r", correlation_id="mine", causation_id="theirs"))
    story.when(START)
    assert story.events[0].causation_id == "theirs"
    assert [event.correlation_id for event in story.events] == ["mine", "mine"]


def test_what_was_not_given_is_absent() -> None:
    story = Story()
    created = story.when(CreateRun(room_id="r", title="t", tags=()))
    assert isinstance(created, RunCreated)
    assert (created.data.title, created.data.goal, created.data.input, created.data.tags) == ("t", UNSET, UNSET, ())


def test_a_run_begins_with_its_creation_and_only_once() -> None:
    story = story_at("running")
    with pytest.raises(ValueError, match="first event"):
        evolve(None, story.events[1])
    with pytest.raises(ValueError, match="created once"):
        evolve(story.state, story.events[0])


def test_evolving_counts_every_event() -> None:
    story = story_at("succeeded")
    state: RunState | None = None
    for event in story.events:
        state = evolve(state, event)
    assert state == story.state
    assert state is not None
    assert state.version == 3
