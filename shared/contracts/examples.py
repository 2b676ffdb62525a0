"""One event of each type, of one run, as the published documents show them.

Invariant: ids and times are fixed, so the bytes are the same for ever; ``tests/golden`` holds them.
"""

from typing import Final, TypedDict

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

RUN_ID: Final = "run_01kffs5p00e7psb9a4ywz2q4xd"
STEP_ID: Final = "step_01kffs5q80f4ytn5v1dr3bq2mc"
WORKSPACE_ID: Final = "ws_dev"
ROOM_ID: Final = "lobby"
CORRELATION_ID: Final = "req-7f3a"


class _Common(TypedDict):
    event_id: str
    occurred_at: str
    recorded_at: str
    workspace_id: str
    room_id: str
    thread_id: str
    run_id: str
    actor_type: ActorType
    actor_id: str
    stream_id: str
    stream_seq: int
    correlation_id: str
    causation_id: str | None


def event_id(stream_seq: int) -> str:
    """The id of the example event at this position."""
    return f"019bde5d-e4{stream_seq:02d}-7c1e-9a3b-2f6d8e0b4c71"


def _common(stream_seq: int) -> _Common:
    return {
        "event_id": event_id(stream_seq),
        "occurred_at": f"2026-01-21T09:30:{stream_seq:02d}.000000Z",
        "recorded_at": f"2026-01-21T09:30:{stream_seq:02d}.001250Z",
        "workspace_id": WORKSPACE_ID,
        "room_id": ROOM_ID,
        "thread_id": "thread_1",
        "run_id": RUN_ID,
        "actor_type": "agent",
        "actor_id": "planner",
        "stream_id": ROOM_ID,
        "stream_seq": stream_seq,
        "correlation_id": CORRELATION_ID,
        "causation_id": None if stream_seq == 1 else event_id(stream_seq - 1),
    }


EXAMPLES: Final[tuple[Event, ...]] = (
    RunCreated(
        **_common(1),
        data=RunCreatedData(
            RUN_ID,
            title="Weekly report",
            goal="Summarise what changed, for Zoë",
            input={"since": "2026-01-14", "sources": ["wiki", None], "budget": 2.5},
            tags=("report", "weekly"),
        ),
    ),
    RunStarted(**_common(2), data=RunStartedData(RUN_ID)),
    StepCreated(
        **_common(3),
        step_id=STEP_ID,
        data=StepCreatedData(STEP_ID, "tool", title="Search the wiki", input={"query": "changes"}),
    ),
    RunCompleted(**_common(4), data=RunCompletedData(RUN_ID, summary="Three changes", output={"changes": 3})),
    RunFailed(**_common(4), data=RunFailedData(RUN_ID, message="The wiki did not answer", error={"code": "timeout"})),
)
"""In the order they could happen; a run either completes or fails."""
