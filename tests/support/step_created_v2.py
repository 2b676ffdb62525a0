"""A second version of an event, as a next release would have it: a step always has a title.

What was written before has none where the client gave none; it reads as if its kind were its title.
"""

from typing import Any

from shared.contracts.events import RunCompleted, RunCreated, RunFailed, RunStarted, StepCreated, StepCreatedData
from shared.contracts.upcasting import EventRegistry


class StepCreatedDataV2(StepCreatedData, frozen=True, kw_only=True):
    title: str  # pyright: ignore[reportGeneralTypeIssues]  # required here, by keyword


class StepCreatedV2(StepCreated, frozen=True, kw_only=True, tag="step.created"):
    event_version: int = 2
    data: StepCreatedDataV2


def step_created_from_v1(envelope: dict[str, Any]) -> dict[str, Any]:
    """``step.created`` of version 2, from version 1."""
    data = envelope["data"]
    return envelope | {"event_version": 2, "data": {"title": data["kind"], **data}}


registry = EventRegistry(
    {("step.created", 1): step_created_from_v1}, (RunCreated, RunStarted, RunCompleted, RunFailed, StepCreatedV2)
)
