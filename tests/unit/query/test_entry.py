from hypothesis import given
from hypothesis import strategies as st

from services.query.feed.entry import Entry, contiguous


@given(st.integers(0, 10), st.lists(st.integers(1, 15)))
def test_what_follows_one_by_one(after: int, seqs: list[int]) -> None:
    taken = contiguous((Entry(seq, 0, b"") for seq in seqs), after)
    assert [entry.stream_seq for entry in taken] == list(range(after + 1, after + 1 + len(taken)))


def test_repeated_ones_are_dropped_and_a_hole_ends_it() -> None:
    seqs = [1, 2, 2, 3, 1, 4, 6, 5]
    assert [entry.stream_seq for entry in contiguous((Entry(seq, 0, b"") for seq in seqs), 1)] == [2, 3, 4]
