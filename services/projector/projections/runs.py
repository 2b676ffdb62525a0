"""``proj_runs`` and ``proj_steps``: the state of each run and its steps, for reads.

Invariant: a run's row is what the events of its own room say, in order, whatever batches they came in: a run is of one
room for life, and what another room's events say of it is no change of it. It is created once, before anything else is
said of it; every other event leaves the state that the contract gives it, whatever was before, as in the command
service. A change carries only what its events gave (None is "as it was"), so a large input is written once, not with
every later step.
"""

from collections.abc import Collection, Sequence
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from services.projector.projections.base import Recorded, RoomEvents, Write
from services.projector.projections.forms import check_forms, check_json
from shared.contracts.events import Event, RunCompleted, RunCreated, RunFailed, RunStarted, StepCreated
from shared.contracts.ids import RoomKey
from shared.contracts.upcasting import EventRegistry, registry

EMPTY_OBJECT = "{}"


class RunOrigin(msgspec.Struct, frozen=True):
    """What ``run.created`` settles for good. ``input`` is JSON text, ``tags`` an array literal of PostgreSQL's."""

    thread_id: str | None
    title: str | None
    goal: str | None
    input: str
    tags: str
    created_at: str
    correlation_id: str


class RunChange(msgspec.Struct):
    """What one batch of a room's events does to one run. ``origin`` is there when the run was created in this batch.

    Times are the contract's text; ``output`` and ``error`` are JSON text.
    """

    run_id: str
    workspace_id: str
    room_id: str
    updated_at: str
    last_event_id: str
    stream_seq: int
    origin: RunOrigin | None = None
    status: str | None = None
    started_at: str | None = None
    ended_at: str | None = None
    summary: str | None = None
    output: str | None = None
    error: str | None = None


class StepRow(msgspec.Struct, frozen=True):
    """A new step. ``input`` is JSON text."""

    step_id: str
    run_id: str
    workspace_id: str
    room_id: str
    thread_id: str | None
    kind: str
    title: str | None
    input: str
    created_at: str
    last_event_id: str
    stream_seq: int


class ImpossibleEventError(ValueError):
    """The event contradicts the events before it or the place it was found in."""


def evolve(change: RunChange | None, event: Event) -> RunChange:
    """The change with the event added to it; ``change`` is altered in place. None starts a new one.

    Every event of a run moves ``updated_at``, ``last_event_id`` and ``stream_seq``, steps included: the run's chain of
    causation goes through them.
    """
    if change is not None and isinstance(event, RunCreated):
        raise ImpossibleEventError(f"{event.run_id} was created twice, or after its first event")
    if change is None:
        change = RunChange(
            event.run_id, event.workspace_id, event.room_id, event.occurred_at, event.event_id, event.stream_seq
        )
    else:
        change.updated_at = event.occurred_at
        change.last_event_id = event.event_id
        change.stream_seq = event.stream_seq
    match event:
        case RunCreated():
            change.origin = _origin(event)
            change.status = "queued"
        case RunStarted():
            change.status = "running"
            change.started_at = event.occurred_at
        case RunCompleted(data=data):
            change.status = "succeeded"
            change.ended_at = event.occurred_at
            if data.summary is not UNSET:
                change.summary = data.summary
            if data.output is not UNSET:
                change.output = _json(data.output)
        case RunFailed(data=data):
            change.status = "failed"
            change.ended_at = event.occurred_at
            if data.error is not UNSET:
                change.error = _json(data.error)
            elif data.message is not UNSET:
                change.error = _json({"message": data.message})
        case StepCreated():
            pass
    return change


def step_row(event: StepCreated) -> StepRow:
    """The row a new step starts with, status ``queued``."""
    data = event.data
    return StepRow(
        step_id=data.step_id,
        run_id=event.run_id,
        workspace_id=event.workspace_id,
        room_id=event.room_id,
        thread_id=event.thread_id,
        kind=data.kind,
        title=_given(data.title),
        input=_json(data.input),
        created_at=event.occurred_at,
        last_event_id=event.event_id,
        stream_seq=event.stream_seq,
    )


class Changes:
    """What events do to runs and steps, gathered one by one. ``events`` reads their envelopes.

    Rooms are kept apart: two that name the same run are two changes. Whose the run is, is seen where they are written.
    """

    def __init__(self, events: EventRegistry = registry) -> None:
        self._decode = events.decode
        self._runs: dict[tuple[RoomKey, str], RunChange] = {}
        self._steps: list[StepRow] = []

    def add(self, room: RoomEvents) -> None:
        for recorded in room.events:
            self._add(room.key, recorded)

    def _add(self, key: RoomKey, recorded: Recorded) -> None:
        event = self._decode(recorded.envelope)
        check_forms(event)
        _check_place(event, key, recorded)
        place = (key, event.run_id)
        self._runs[place] = evolve(self._runs.get(place), event)
        if isinstance(event, StepCreated):
            self._steps.append(step_row(event))

    def writes(self) -> list[Write]:
        return [*_run_writes(self._runs.values()), *_step_writes(self._steps)]


class Runs:
    name = "runs"
    schema = 1

    def __init__(self, events: EventRegistry = registry) -> None:
        self._events = events

    def changes(self) -> Changes:
        return Changes(self._events)


def _check_place(event: Event, key: RoomKey, recorded: Recorded) -> None:
    if (
        event.stream_seq != recorded.stream_seq
        or event.room_id != key.room_id
        or event.workspace_id != key.workspace_id
    ):
        raise ImpossibleEventError("the envelope is of another room or another stream_seq than the place it was in")


def _origin(event: RunCreated) -> RunOrigin:
    data = event.data
    return RunOrigin(
        thread_id=event.thread_id,
        title=_given(data.title),
        goal=_given(data.goal),
        input=_json(data.input),
        tags=_array_literal(data.tags or ()),
        created_at=event.occurred_at,
        correlation_id=event.correlation_id,
    )


def _run_writes(changes: Collection[RunChange]) -> list[Write]:
    created = [(change, change.origin) for change in changes if change.origin is not None]
    moved = [change for change in changes if change.origin is None]
    writes: list[Write] = []
    if created:
        columns = (
            [change.run_id for change, _ in created],
            [change.workspace_id for change, _ in created],
            [change.room_id for change, _ in created],
            [origin.thread_id for _, origin in created],
            [change.status for change, _ in created],
            [origin.title for _, origin in created],
            [origin.goal for _, origin in created],
            [origin.input for _, origin in created],
            [change.output or EMPTY_OBJECT for change, _ in created],
            [change.error or EMPTY_OBJECT for change, _ in created],
            [change.summary for change, _ in created],
            [origin.tags for _, origin in created],
            [origin.created_at for _, origin in created],
            [change.started_at for change, _ in created],
            [change.ended_at for change, _ in created],
            [change.updated_at for change, _ in created],
            [origin.correlation_id for _, origin in created],
            [change.last_event_id for change, _ in created],
            [change.stream_seq for change, _ in created],
        )
        writes.append(Write("runs_insert", columns))
    if moved:
        columns = (
            [change.run_id for change in moved],
            [change.workspace_id for change in moved],
            [change.room_id for change in moved],
            [change.status for change in moved],
            [change.output for change in moved],
            [change.error for change in moved],
            [change.summary for change in moved],
            [change.started_at for change in moved],
            [change.ended_at for change in moved],
            [change.updated_at for change in moved],
            [change.last_event_id for change in moved],
            [change.stream_seq for change in moved],
        )
        writes.append(Write("runs_update", columns))
    return writes


def _step_writes(steps: Sequence[StepRow]) -> list[Write]:
    if not steps:
        return []
    columns = (
        [step.step_id for step in steps],
        [step.run_id for step in steps],
        [step.workspace_id for step in steps],
        [step.room_id for step in steps],
        [step.thread_id for step in steps],
        [step.kind for step in steps],
        [step.title for step in steps],
        [step.input for step in steps],
        [step.created_at for step in steps],
        [step.last_event_id for step in steps],
        [step.stream_seq for step in steps],
    )
    return [Write("steps_insert", columns)]


def _given(value: str | UnsetType) -> str | None:
    return None if value is UNSET else value


_encoder = msgspec.json.Encoder()


def _json(value: dict[str, Any] | UnsetType) -> str:
    if value is UNSET:
        return EMPTY_OBJECT
    text = _encoder.encode(value)
    check_json(text)
    return text.decode()


def _array_literal(items: Sequence[str]) -> str:
    quoted = (item.replace("\\", "\\\\").replace('"', '\\"') for item in items)
    return "{" + ",".join(f'"{item}"' for item in quoted) + "}"
