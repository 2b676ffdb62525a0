"""Deciding a whole batch of commands, in arrival order, against the state that was loaded for it.

Invariant: the plan is what would have come of running the commands one after another: every event gets the next number
of its room, every command sees the events of those before it, and one idempotency key has one outcome.
"""

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Annotated, NamedTuple

import msgspec
from msgspec import Meta

from services.command.domain.commands import Command, CreateRun
from services.command.domain.decide import Caller, Ids, Position, Refusal, decide, run_not_found
from services.command.domain.run import RunState, evolve
from shared.contracts.events import Event, RunCreated, StepCreated, encode_event
from shared.contracts.forms import CorrelationId, EventId, RunId, StepId, StreamSeq, Token
from shared.contracts.ids import RoomKey, is_token
from shared.contracts.times import format_time

KeyId = tuple[str, str]
"""(workspace_id, idempotency_key)"""


class IdempotencyKey(NamedTuple):
    """The client's key, and the fingerprint of method, path and body it came with."""

    key: str
    fingerprint: bytes


class Request(NamedTuple):
    """One command as it arrived."""

    caller: Caller
    command: Command
    occurred_at: str
    idempotency: IdempotencyKey | None = None
    traceparent: str | None = None

    @property
    def key_id(self) -> KeyId | None:
        return (self.caller.workspace_id, self.idempotency.key) if self.idempotency else None


class StoredOutcome(NamedTuple):
    """The first outcome of a command with a key, as it is stored and given again."""

    fingerprint: bytes
    status: int
    response: bytes
    expires_at: datetime


class Accepted(NamedTuple):
    """The answer to a command that led to an event, now or, when ``replayed``, the first time it came."""

    status: int
    response: bytes
    location: str | None = None
    """Path of what was created, for a run."""
    replayed: bool = False
    correlation_id: str | None = None
    """The run's, for logs."""


Outcome = Accepted | Refusal


class AcceptedBody(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a client is told about the event its command led to."""

    ok: Annotated[bool, Meta(extra_json_schema={"const": True})]
    run_id: RunId
    step_id: StepId | None = None
    event_id: EventId
    room_id: Token
    stream_seq: StreamSeq
    correlation_id: CorrelationId


class Loaded:
    """The state a batch is decided on. ``plan`` moves it on as it decides."""

    def __init__(
        self, rooms: dict[RoomKey, int], runs: dict[str, RunState], outcomes: dict[KeyId, StoredOutcome]
    ) -> None:
        self.rooms = rooms
        """Last stream_seq of every room the batch may write to; a new room is at 0."""
        self.runs = runs
        self.outcomes = outcomes


class NewEvent(NamedTuple):
    event: Event
    envelope: bytes
    traceparent: str | None


class Plan(NamedTuple):
    """What to write, and what to answer once it is committed. ``outcomes`` stands in the order of the requests."""

    outcomes: list[Outcome]
    accepted_event_ids: list[str | None]
    """The event each request led to in this plan; None for refusals and replays."""
    events: list[NewEvent]
    rooms: dict[RoomKey, int]
    runs: dict[str, RunState]
    stored: dict[KeyId, StoredOutcome]


def plan(requests: Iterable[Request], loaded: Loaded, now: datetime, ids: Ids, keep: timedelta) -> Plan:
    """Decides the requests in order. ``keep`` is how long outcomes of keyed commands are stored."""
    drafted = Plan([], [], [], {}, {}, {})
    recorded_at = format_time(now)
    for request in requests:
        outcome = _hidden(request, loaded) or _remembered(request, loaded, now)
        event_id = None
        if outcome is None:
            outcome = _decide_one(request, loaded, drafted, recorded_at, ids)
            if isinstance(outcome, Accepted):
                event_id = drafted.events[-1].event.event_id
                _remember(request, outcome, loaded, drafted, now + keep)
        drafted.outcomes.append(outcome)
        drafted.accepted_event_ids.append(event_id)
    return drafted


def _hidden(request: Request, loaded: Loaded) -> Refusal | None:
    """The refusal of a command on a run in a room that is closed to the caller; its stored outcomes are, too."""
    caller, command = request.caller, request.command
    if caller.rooms is None or isinstance(command, CreateRun):
        return None
    state = loaded.runs.get(command.run_id)
    return None if state is not None and caller.may_see(state.room) else run_not_found()


def _remembered(request: Request, loaded: Loaded, now: datetime) -> Outcome | None:
    if request.idempotency is None or request.key_id is None:
        return None
    stored = loaded.outcomes.get(request.key_id)
    if stored is None or stored.expires_at <= now:
        return None
    if stored.fingerprint != request.idempotency.fingerprint:
        return Refusal("idempotency_key_reused", "Idempotency-Key: it was used before with another request")
    body = msgspec.json.decode(stored.response, type=AcceptedBody)
    if not is_token(body.run_id):
        # It would be a header of the answer, and no service need have written it.
        raise ValueError("the stored outcome is malformed: its run_id is no token")
    location = _location(body.run_id) if isinstance(request.command, CreateRun) else None
    return Accepted(stored.status, stored.response, location, replayed=True, correlation_id=body.correlation_id)


def _location(run_id: str) -> str:
    return f"/v1/runs/{run_id}"


def _remember(request: Request, outcome: Accepted, loaded: Loaded, drafted: Plan, expires_at: datetime) -> None:
    if request.idempotency is None or request.key_id is None:
        return
    stored = StoredOutcome(request.idempotency.fingerprint, outcome.status, outcome.response, expires_at)
    loaded.outcomes[request.key_id] = drafted.stored[request.key_id] = stored


def _decide_one(request: Request, loaded: Loaded, drafted: Plan, recorded_at: str, ids: Ids) -> Outcome:
    caller, command = request.caller, request.command
    state = None if isinstance(command, CreateRun) else loaded.runs.get(command.run_id)
    if state is not None and not caller.may_see(state.room):
        state = None
    room_id = command.room_id if isinstance(command, CreateRun) else state.room_id if state else ""
    room = RoomKey(caller.workspace_id, room_id)
    stream_seq = loaded.rooms.get(room, 0) + 1
    decision = decide(state, command, caller, Position(stream_seq, request.occurred_at, recorded_at), ids)
    if isinstance(decision, Refusal):
        return decision
    after = evolve(state, decision)
    loaded.runs[after.run_id] = drafted.runs[after.run_id] = after
    loaded.rooms[room] = drafted.rooms[room] = stream_seq
    drafted.events.append(NewEvent(decision, encode_event(decision), request.traceparent))
    body = AcceptedBody(
        ok=True,
        run_id=decision.run_id,
        step_id=decision.step_id,
        event_id=decision.event_id,
        room_id=decision.room_id,
        stream_seq=stream_seq,
        correlation_id=decision.correlation_id,
    )
    encoded, correlation_id = msgspec.json.encode(body), decision.correlation_id
    match decision:
        case RunCreated():
            return Accepted(201, encoded, _location(decision.run_id), correlation_id=correlation_id)
        case StepCreated():
            return Accepted(201, encoded, correlation_id=correlation_id)
        case _:
            return Accepted(200, encoded, correlation_id=correlation_id)
