"""The events a room is made of, version 1, each with its envelope: one JSON object.

Invariant: the bytes ``encode_event`` gives are the ones in the store, on the stream and in SSE. Nulls of the envelope
are present; members of ``data`` that were not given are absent. What is published about the events is made from these
types, so the forms of members are said here and checked where commands come in.
"""

from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from shared.contracts.forms import (
    CorrelationId,
    EventId,
    JsonObject,
    RunId,
    StepId,
    StreamSeq,
    Tags,
    Text,
    Time,
    Token,
)

ActorType = Literal["service", "user", "agent"]
EventType = Literal["run.created", "run.started", "run.completed", "run.failed", "step.created"]

ACTOR_TYPES: tuple[ActorType, ...] = ("service", "user", "agent")


class RunCreatedData(Struct, frozen=True):
    run_id: RunId
    title: Text | UnsetType = UNSET
    goal: Text | UnsetType = UNSET
    input: JsonObject | UnsetType = UNSET
    tags: Tags | UnsetType = UNSET


class RunStartedData(Struct, frozen=True):
    run_id: RunId


class RunCompletedData(Struct, frozen=True):
    run_id: RunId
    summary: Text | UnsetType = UNSET
    output: JsonObject | UnsetType = UNSET


class RunFailedData(Struct, frozen=True):
    run_id: RunId
    message: Text | UnsetType = UNSET
    error: JsonObject | UnsetType = UNSET


class StepCreatedData(Struct, frozen=True):
    step_id: StepId
    kind: Text
    title: Text | UnsetType = UNSET
    input: JsonObject | UnsetType = UNSET


class Envelope(Struct, frozen=True, kw_only=True, tag_field="event_type"):
    """What every event carries, whatever its type.

    ``occurred_at`` and ``recorded_at`` are RFC 3339 UTC with microseconds and ``Z``. ``stream_seq`` counts 1, 2, 3, …
    per (workspace, room). ``causation_id`` is the event id of the run's previous event; on ``run.created`` it is what
    the client gave, or null.
    """

    event_id: EventId
    event_version: Annotated[int, Meta(description="Version of the type: what `data` means.")] = 1
    occurred_at: Annotated[Time, Meta(description="When the command arrived.")]
    recorded_at: Annotated[Time, Meta(description="When the event was recorded.")]
    workspace_id: Token
    room_id: Token
    thread_id: Token | None
    run_id: RunId
    step_id: StepId | None = None
    actor_type: ActorType
    actor_id: Annotated[str, Meta(description="Who did it.")]
    stream_type: Literal["room"] = "room"
    stream_id: Annotated[Token, Meta(description="The room id again.")]
    stream_seq: StreamSeq
    correlation_id: CorrelationId
    causation_id: Annotated[
        EventId | None,
        Meta(
            description="The run's event before this one; on `run.created` what the client gave, or null.",
        ),
    ]


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
