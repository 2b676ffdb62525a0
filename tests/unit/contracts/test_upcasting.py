"""A stored version 1 reads as version 2 once there is one, and everything else as before."""

import json
from pathlib import Path
from typing import Any

import pytest

from shared.contracts.events import encode_event
from shared.contracts.upcasting import UndecodableEventError, UnknownEventError, registry
from tests.support import step_created_v2
from tests.support.step_created_v2 import StepCreatedV2

GOLDEN = Path(__file__).parents[2] / "golden"
STEP_V1 = (GOLDEN / "step.created.v1.json").read_bytes()


def v1(**data: Any) -> bytes:
    return json.dumps(json.loads(STEP_V1) | {"data": {"step_id": "step_1", "kind": "tool", **data}}).encode()


@pytest.mark.parametrize(("data", "title"), [({}, "tool"), ({"title": "Look"}, "Look")])
def test_version_1_reads_as_version_2(data: dict[str, str], title: str) -> None:
    event = step_created_v2.registry.decode(v1(**data))
    assert isinstance(event, StepCreatedV2)
    assert (event.event_version, event.data.title, event.data.kind) == (2, title, "tool")


def test_version_2_is_read_as_it_is_and_only_by_who_knows_it() -> None:
    lifted = step_created_v2.registry.decode(STEP_V1)
    written = encode_event(lifted)
    assert json.loads(written)["event_version"] == 2
    assert step_created_v2.registry.decode(written) == lifted
    with pytest.raises(UnknownEventError):
        registry.decode(written)


def test_what_has_no_second_version_is_left_alone() -> None:
    for name in ("run.created", "run.started", "run.completed", "run.failed"):
        envelope = (GOLDEN / f"{name}.v1.json").read_bytes()
        assert step_created_v2.registry.decode(envelope) == registry.decode(envelope)


def test_what_the_upcaster_cannot_lift_is_undecodable() -> None:
    with pytest.raises(UndecodableEventError):
        step_created_v2.registry.decode(v1(title=7))
    with pytest.raises(UnknownEventError):
        step_created_v2.registry.decode(STEP_V1.replace(b'"event_version":1', b'"event_version":3'))
