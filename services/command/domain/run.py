"""A run as decisions see it: its state, and how each event moves it.

Invariant: ``evolve`` over a run's events in order gives exactly the state the store keeps for it.
"""

from typing import Literal, assert_never

from msgspec import Struct
from msgspec.structs import replace

from shared.contracts.events import Event, RunCompleted, RunCreated, RunFailed, RunStarted, StepCreated
from shared.contracts.ids import RoomKey

RunStatus = Literal["queued", "running", "succeeded", "failed"]


class RunState(Struct, frozen=True, kw_only=True, gc=False):
    """``version`` counts the run's events; ``last_event_id`` is what its next event names as its cause.

    Tens of thousands are remembered, and hold nothing that garbage collections would have to look for.
    """

    run_id: str
    workspace_id: str
    room_id: str
    thread_id: str | None
    status: RunStatus
    version: int
    last_event_id: str
    correlation_id: str

    @property
    def room(self) -> RoomKey:
        return RoomKey(self.workspace_id, self.room_id)


def evolve(state: RunState | None, event: Event) -> RunState:
    """The run after the event. Only ``run.created`` applies to no state."""
    if state is None:
        if not isinstance(event, RunCreated):
            raise ValueError(f"{type(event).__name__} cannot be a run's first event")
        return RunState(
            run_id=event.run_id,
            workspace_id=event.workspace_id,
            room_id=event.room_id,
            thread_id=event.thread_id,
            status="queued",
            version=1,
            last_event_id=event.event_id,
            correlation_id=event.correlation_id,
        )
    return replace(state, status=_status(state, event), version=state.version + 1, last_event_id=event.event_id)


def _status(state: RunState, event: Event) -> RunStatus:
    match event:
        case RunCreated():
            raise ValueError("a run is created once")
        case RunStarted():
            return "running"
        case RunCompleted():
            return "succeeded"
        case RunFailed():
            return "failed"
        case StepCreated():
            return state.status
        case _:
            assert_never(event)
