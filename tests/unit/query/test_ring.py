import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.query.feed.frame import chunk
from services.query.feed.ring import Ring


def frame(seq: int, size: int = 0) -> bytes:
    return b"<%d>" % seq + b"." * size


def new(last: int = 0, most_events: int = 8, most_bytes: int = 10_000) -> Ring:
    return Ring(last, most_events=most_events, most_bytes=most_bytes)


def test_an_empty_ring_covers_its_own_position_alone() -> None:
    ring = new(last=5)
    assert (ring.first, ring.last, len(ring)) == (6, 5, 0)
    assert ring.covers(5)
    assert not ring.covers(4)
    assert not ring.covers(6)
    assert ring.after(5, 100) == (b"", 5)


def test_only_the_next_event_is_taken() -> None:
    ring = new()
    assert [ring.append(seq, frame(seq)) for seq in (2, 1, 1, 3, 2, 3)] == [False, True, False, False, True, True]
    assert ring.after(0, 100) == (chunk(b"<1><2><3>"), 3)


def test_a_frame_larger_than_the_ring_is_there_until_everybody_has_been_told() -> None:
    ring = new(most_bytes=100)
    ring.append(1, frame(1))
    ring.append(2, frame(2, 1000))
    assert (ring.first, ring.last, len(ring)) == (2, 2, 1)
    assert ring.after(1, 10) == (chunk(frame(2, 1000)), 2)
    ring.settle()
    assert (ring.first, ring.last, len(ring), ring.size) == (3, 2, 0, 0)
    assert ring.covers(2)
    assert not ring.covers(1)
    ring.append(3, frame(3))
    assert (ring.first, ring.size) == (3, 3)
    assert ring.after(2, 10) == (chunk(frame(3)), 3)


def test_a_chunk_is_no_second_copy_of_what_hardly_fits() -> None:
    ring = new(most_bytes=100)
    ring.append(1, frame(1, 60))
    assert ring.after(0, 10)[0] is ring.after(0, 10)[0], "made once for all who are told"
    ring.settle()
    assert ring.size == len(frame(1, 60))
    assert ring.after(0, 10) == (chunk(frame(1, 60)), 1)
    assert ring.size == len(frame(1, 60))


def test_rebase() -> None:
    ring = new()
    for seq in range(1, 6):
        ring.append(seq, frame(seq))
    ring.rebase(20)
    assert (ring.first, ring.last, ring.size) == (21, 20, 0)
    assert not ring.covers(5)
    assert ring.append(21, frame(21))
    with pytest.raises(ValueError, match="cannot go back"):
        ring.rebase(20)


@given(
    start=st.integers(0, 1000),
    sizes=st.lists(st.integers(0, 300), max_size=1500),
    most_events=st.integers(1, 700),
    most_bytes=st.integers(1, 20_000),
    most=st.integers(1, 5000),
    data=st.data(),
)
def test_whoever_is_covered_gets_everything_that_follows(
    start: int, sizes: list[int], most_events: int, most_bytes: int, most: int, data: st.DataObject
) -> None:
    ring = new(start, most_events, most_bytes)
    frames: dict[int, bytes] = {}
    for seq, size in enumerate(sizes, start + 1):
        frames[seq] = frame(seq, size)
        assert ring.append(seq, frames[seq])
    last = start + len(sizes)
    assert ring.last == last
    assert len(ring) <= most_events
    assert ring.size == sum(len(frames[seq]) for seq in range(ring.first, last + 1))
    assert ring.size <= most_bytes or len(ring) == 1
    if data.draw(st.booleans()):
        ring.settle()
        assert ring.size <= most_bytes
    cursor = data.draw(st.integers(ring.first - 1, last))
    assert ring.covers(cursor)
    received = b""
    expected = b"".join(frames[seq] for seq in range(cursor + 1, last + 1))
    while cursor < last:
        part, reached = ring.after(cursor, most)
        assert reached > cursor
        assert ring.after(cursor, most) == (part, reached)
        size, _, rest = part.partition(b"\r\n")
        assert len(rest) == int(size, 16) + 2
        assert len(rest) - 2 <= most or reached == cursor + 1
        received += rest.removesuffix(b"\r\n")
        cursor = reached
    assert received == expected
    ring.settle()
    assert ring.size <= most_bytes
    if ring.first > start + 1:
        assert not ring.covers(ring.first - 2)
    assert not ring.covers(last + 1)
