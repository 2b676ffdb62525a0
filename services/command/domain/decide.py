"""Deciding a command: the event it leads to, or why it is refused.

Invariant: a decision depends on nothing but its arguments. A refusal is a value: it fails one command, never the others
decided with it.
"""

from typing import Literal, NamedTuple, Protocol, TypedDict, TypeVar, assert_never, cast

from msgspec import UNSET, Raw, UnsetType

from services.command.domain.commands import Command, CompleteRun, CreateRun, CreateStep, FailRun, StartRun
from services.command.domain.run import RunState
from shared.contracts.events import (
    ActorType,
    Event,
    RunCompleted,
    RunCompletedData,
    RunCreated,
    RunCreatedData,
    RunFailed,
    RunFailedData,
    RunStarted,
    RunStartedData,
    StepCreated,
    StepCreatedData,
)
from shared.contracts.forms import JsonObject
from shared.contracts.ids import RoomKey

RefusalCode = Literal[
    "run_not_found", "run_not_queued", "run_already_ended", "run_not_running", "idempotency_key_reused"
]


class Refusal(NamedTuple):
    """Why a command leads to no event."""

    error: RefusalCode
    detail: str


def run_not_found() -> Refusal:
    """The same for a run of another workspace or room as for none at all."""
    return Refusal("run_not_found", "there is no such run in this workspace")


class Ids(Protocol):
    """Mints identifiers. Every call gives a new one that sorts after the one before."""

    def run_id(self) -> str: ...
    def step_id(self) -> str: ...
    def event_id(self) -> str: ...
    def correlation_id(self) -> str: ...


class Caller(NamedTuple):
    """``rooms`` are the only ones it may touch runs in, None for all of its workspace."""

    workspace_id: str
    actor_type: ActorType
    actor_id: str
    rooms: frozenset[str] | None = None

    def may_see(self, room: RoomKey) -> bool:
        """Whether the room's runs exist as far as the caller is concerned."""
        return room.workspace_id == self.workspace_id and (self.rooms is None or room.room_id in self.rooms)


class Position(NamedTuple):
    """Where and when the event will stand; times as the contract writes them."""

    stream_seq: int
    occurred_at: str
    recorded_at: str


def decide(state: RunState | None, command: Command, caller: Caller, position: Position, ids: Ids) -> Event | Refusal:
    """The event the command leads to in ``state``, or the refusal.

    ``state`` is None for a run that the caller may not see or that does not exist, and for ``CreateRun``.
    """
    if isinstance(command, CreateRun):
        return _create(command, caller, position, ids)
    if state is None:
        return run_not_found()
    match command:
        case StartRun():
            if state.status != "queued":
                return Refusal("run_not_queued", f"run {state.run_id} is {state.status}; only a queued run can start")
            return RunStarted(**_envelope(state, caller, position, ids), data=RunStartedData(state.run_id))
        case CompleteRun():
            if state.status not in ("queued", "running"):
                return Refusal("run_already_ended", f"run {state.run_id} has {state.status} already")
            completed = RunCompletedData(state.run_id, _given(command.summary), _as_object(command.output))
            return RunCompleted(**_envelope(state, caller, position, ids), data=completed)
        case FailRun():
            if state.status not in ("queued", "running"):
                return Refusal("run_already_ended", f"run {state.run_id} has {state.status} already")
            failed = RunFailedData(state.run_id, _given(command.message), _as_object(command.error))
            return RunFailed(**_envelope(state, caller, position, ids), data=failed)
        case CreateStep():
            if state.status != "running":
                return Refusal("run_not_running", f"run {state.run_id} is {state.status}; steps need a running run")
            step_id = ids.step_id()
            step = StepCreatedData(step_id, command.kind, _given(command.title), _as_object(command.input))
            return StepCreated(**_envelope(state, caller, position, ids), step_id=step_id, data=step)
        case _:
            assert_never(command)


T = TypeVar("T")


def _given(value: T | None) -> T | UnsetType:
    return UNSET if value is None else value


def _as_object(value: Raw | None) -> JsonObject | UnsetType:
    """Encoded already, it stands where readers find an object: all that is done with a new event is to encode it."""
    return UNSET if value is None else cast("JsonObject", value)


class _Common(TypedDict):
    event_id: str
    occurred_at: str
    recorded_at: str
    workspace_id: str
    room_id: str
    thread_id: str | None
    run_id: str
    actor_type: ActorType
    actor_id: str
    stream_id: str
    stream_seq: int
    correlation_id: str
    causation_id: str | None


def _envelope(state: RunState, caller: Caller, position: Position, ids: Ids) -> _Common:
    return {
        "event_id": ids.event_id(),
        "occurred_at": position.occurred_at,
        "recorded_at": position.recorded_at,
        "workspace_id": state.workspace_id,
        "room_id": state.room_id,
        "thread_id": state.thread_id,
        "run_id": state.run_id,
        "actor_type": caller.actor_type,
        "actor_id": caller.actor_id,
        "stream_id": state.room_id,
        "stream_seq": position.stream_seq,
        "correlation_id": state.correlation_id,
        # One chain per run: whatever happened to it last is the cause of what happens next.
        "causation_id": state.last_event_id,
    }


def _create(command: CreateRun, caller: Caller, position: Position, ids: Ids) -> RunCreated:
    run_id = ids.run_id()
    return RunCreated(
        event_id=ids.event_id(),
        occurred_at=position.occurred_at,
        recorded_at=position.recorded_at,
        workspace_id=caller.workspace_id,
        room_id=command.room_id,
        thread_id=command.thread_id,
        run_id=run_id,
        actor_type=caller.actor_type,
        actor_id=caller.actor_id,
        stream_id=command.room_id,
        stream_seq=position.stream_seq,
        correlation_id=command.correlation_id or ids.correlation_id(),
        causation_id=command.causation_id,
        data=RunCreatedData(
            run_id, _given(command.title), _given(command.goal), _as_object(command.input), _given(command.tags)
        ),
    )
