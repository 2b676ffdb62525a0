"""The exact bytes of each frame of a room stream, as clients have learnt to read them."""

from pathlib import Path

import pytest

from services.query.feed.frame import (
    HEARTBEAT,
    busy_frame,
    caught_up_frame,
    event_frame,
    reset_frame,
    retry_frame,
)
from shared.contracts.events import Event, encode_event, event_type_of
from shared.contracts.examples import EXAMPLES

GOLDEN = Path(__file__).parents[2] / "golden"


@pytest.mark.parametrize("event", EXAMPLES, ids=event_type_of)
def test_an_event(event: Event) -> None:
    envelope = (GOLDEN / f"{event_type_of(event)}.v1.json").read_bytes()
    assert event_frame(event.stream_seq, encode_event(event)) == (
        b"id: " + str(event.stream_seq).encode() + b"\ndata: " + envelope + b"\n\n"
    )


@pytest.mark.parametrize(
    ("frame", "golden"),
    [
        (retry_frame(1500), b"retry: 1500\n\n"),
        (caught_up_frame(3), b'event: caught-up\ndata: {"stream_seq":3}\n\n'),
        (
            reset_frame("cursor_ahead", 1, 9),
            b'event: reset\ndata: {"reason":"cursor_ahead","first_seq":1,"head_seq":9}\n\n',
        ),
        (
            reset_frame("history_trimmed", 4, 9),
            b'event: reset\ndata: {"reason":"history_trimmed","first_seq":4,"head_seq":9}\n\n',
        ),
        (busy_frame("process"), b'event: busy\ndata: {"limit":"process"}\n\n'),
        (busy_frame("room"), b'event: busy\ndata: {"limit":"room"}\n\n'),
        (busy_frame("shutdown"), b'event: busy\ndata: {"limit":"shutdown"}\n\n'),
        (HEARTBEAT, b"3\r\n:\n\n\r\n"),
    ],
    ids=["retry", "caught-up", "ahead", "trimmed", "process", "room", "shutdown", "heartbeat, with its chunk"],
)
def test_what_is_no_event(frame: bytes, golden: bytes) -> None:
    assert frame == golden
