import json

import pytest

from services.query.feed.frame import (
    HEARTBEAT,
    busy_frame,
    caught_up_frame,
    chunk,
    event_frame,
    reset_frame,
    retry_frame,
)


def test_an_event_frame_is_id_and_data() -> None:
    assert event_frame(7, '{"title":"Grüße \u2028"}'.encode()) == 'id: 7\ndata: {"title":"Grüße \u2028"}\n\n'.encode()


@pytest.mark.parametrize(
    ("frame", "name", "data"),
    [
        (caught_up_frame(3), "caught-up", {"stream_seq": 3}),
        (caught_up_frame(2**53), "caught-up", {"stream_seq": 2**53 - 1}),
        (reset_frame("cursor_ahead", 1, 9), "reset", {"reason": "cursor_ahead", "first_seq": 1, "head_seq": 9}),
        (busy_frame("room"), "busy", {"limit": "room"}),
    ],
)
def test_a_control_frame_is_named_and_carries_no_id(frame: bytes, name: str, data: object) -> None:
    first, second, *rest = frame.decode().split("\n")
    assert first == f"event: {name}"
    assert json.loads(second.removeprefix("data: ")) == data
    assert rest == ["", ""]


def test_what_carries_no_event() -> None:
    assert chunk(b":\n\n") == HEARTBEAT
    assert retry_frame(1500) == b"retry: 1500\n\n"


def test_a_chunk_says_its_length() -> None:
    assert chunk(b"a" * 20, b"b\n\n") == b"17\r\n" + b"a" * 20 + b"b\n\n\r\n"
    # The length of an empty one would be the end of the body.
    assert chunk() == chunk(b"", b"") == b""
