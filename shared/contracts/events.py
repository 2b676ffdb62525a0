"""The events a room is made of, version 1, each with its envelope: one JSON object.

Invariant: the bytes ``encode_event`` gives are the ones in the store, on the stream and in SSE. Nulls of the envelope
are present; members of ``data`` that were not given are absent.
"""

from typing import Any, Literal

import msgspec
from msgspec import UNSET, Struct, UnsetType

JsonObject = dict[str, Any]
ActorType = Literal["service", "user", "agent"]
EventType = Literal["run.created", "run.started", "run.completed", "run.failed", "step.created"]

ACTOR_TYPES: tuple[ActorType, ...] = ("service", "user", "agent")


class RunCreatedData(Struct, frozen=True):
    run_id: str
    title: str | UnsetType = UNSET
    goal: str | UnsetType = UNSET
    input: JsonObject | UnsetType = UNSET
    tags: tuple[str, ...] | UnsetType = UNSET


class RunStartedData(Struct, frozen=True):
    run_id: str


class RunCompletedData(Struct, frozen=True):
    run_id: str
    summary: str | UnsetType = UNSET
    output: JsonObject | UnsetType = UNSET


class RunFailedData(Struct, frozen=True):
    run_id: str
    message: str | UnsetType = UNSET
    error: JsonObject | UnsetType = UNSET


class StepCreatedData(Struct, frozen=True):
    step_id: str
    kind: str
    title: str | UnsetType = UNSET
    input: JsonObject | UnsetType = UNSET


class Envelope(Struct, frozen=True, kw_only=True, tag_field="event_type"):
    """What every event carries, whatever its type.

    ``occurred_at`` and ``recorded_at`` are RFC 3339 UTC with microseconds and ``Z``. ``stream_seq`` counts 1, 2, 3, …
    per (workspace, room). ``causation_id`` is the event id of the run's previous event; on ``run.created`` it is what
    the client gave, or null.
    """

    event_id: str
    event_version: int = 1
    occurred_at: str
    recorded_at: str
    workspace_id: str
    room_id: str
    thread_id: str | None
    run_id: str
    step_id: str | None = None
    actor_type: ActorType
    actor_id: str
    stream_type: Literal["room"] = "room"
    stream_id: str
    stream_seq: int
    correlation_id: str
    causation_id: str | None


class RunCreated(Envelope, frozen=True, kw_only=True, tag="run.created"):
    data: RunCreatedData


class RunStarted(Envelope, frozen=True, kw_only=True, tag="run.started"):
    data: RunStartedData


class RunCompleted(Envelope, frozen=True, kw_only=True, tag="run.completed"):
    data: RunCompletedData


class RunFailed(Envelope, frozen=True, kw_only=True, tag="run.failed"):
    data: RunFailedData


class StepCreated(Envelope, frozen=True, kw_only=True, tag="step.created"):
    data: StepCreatedData


Event = RunCreated | RunStarted | RunCompleted | RunFailed | StepCreated

EVENT_CLASSES: tuple[type[Event], ...] = (RunCreated, RunStarted, RunCompleted, RunFailed, StepCreated)

_encoder = msgspec.json.Encoder()


def encode_event(event: Event) -> bytes:
    """The event as one line of JSON, UTF-8."""
    return _encoder.encode(event)


def event_type_of(event: Event) -> EventType:
    """The wire name of the event's type, such as ``run.created``."""
    return event.__struct_config__.tag  # pyright: ignore[reportReturnType]  # the tags above are the literals
