"""The viewers of benchmarks: what they must not let pass."""

import pytest

from bench.viewers.sse import StreamError, join_chunks, read_events


def _frame(seq: int, mark: str = "") -> bytes:
    return b'id: %b\ndata: {"event_type":"run.created","stream_seq":%d}\n\n' % ((mark or str(seq)).encode(), seq)


def _chunk(content: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(content), content)


@pytest.mark.parametrize("cut", range(1, 12))
def test_chunks_cut_anywhere_are_joined(cut: int) -> None:
    received = _chunk(b"one") + _chunk(b"two")
    content, rest = join_chunks(received[:-cut])
    assert content + join_chunks(rest + received[-cut:])[0] == b"onetwo"


def test_the_last_chunk_is_an_end_that_nobody_asked_for() -> None:
    with pytest.raises(StreamError):
        join_chunks(b"0\r\n\r\n")


def test_events_in_order_are_a_range_and_what_is_cut_is_left_over() -> None:
    events = read_events(b"retry: 1000\n\n" + _frame(4) + b":\n\n" + _frame(5) + _frame(6)[:-1])
    assert (events.first, events.last, events.rest) == (4, 5, _frame(6)[:-1])
    assert events.others == b"retry: 1000\n:\n"


def test_a_peer_has_ids_of_its_own() -> None:
    assert read_events(_frame(4, "1795510303:0"))[:2] == (4, 4)


@pytest.mark.parametrize(
    "text",
    [
        _frame(4) + _frame(4),
        _frame(4) + _frame(6),
        _frame(4) + _frame(3),
        _frame(4, "5"),
        b"id: 4\ndata: {}\n\n",
        b'event: reset\ndata: {"reason": "cursor_ahead"}\n\n',
    ],
)
def test_whatever_is_not_every_event_once_and_in_order_is_an_error(text: bytes) -> None:
    with pytest.raises(StreamError):
        read_events(text)
