"""The exact bytes of each event: a change of the wire format is a decision and not an accident.

The files are never made again from the code. What is stored and was published has these bytes, so a new version of an
event gets a file beside the old one.
"""

from pathlib import Path

import pytest

from shared.contracts.events import EVENT_CLASSES, Event, encode_event, event_type_of
from shared.contracts.examples import EXAMPLES
from shared.contracts.upcasting import registry

GOLDEN = Path(__file__).parents[2] / "golden"
VERSION_1 = {event_type_of(event): (GOLDEN / f"{event_type_of(event)}.v1.json").read_bytes() for event in EXAMPLES}


@pytest.mark.parametrize("event", EXAMPLES, ids=event_type_of)
def test_an_event_is_written_with_these_bytes(event: Event) -> None:
    assert encode_event(event) == VERSION_1[event_type_of(event)]


@pytest.mark.parametrize("event", EXAMPLES, ids=event_type_of)
def test_these_bytes_are_read_back(event: Event) -> None:
    assert registry.decode(VERSION_1[event_type_of(event)]) == event


def test_every_type_has_its_bytes() -> None:
    assert set(VERSION_1) == {cls.__struct_config__.tag for cls in EVENT_CLASSES}
    assert all(b"\n" not in envelope for envelope in VERSION_1.values())
