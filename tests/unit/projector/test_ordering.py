"""Whatever arrives in whatever order: 1, 2, 3, …"""

from hypothesis import given
from hypothesis import strategies as st

from services.projector.ordering import fill, put_in_order
from services.projector.projections.base import Recorded


def recorded(seq: int, position: int = 1) -> Recorded:
    return Recorded(seq, position, str(seq).encode())


def seqs(events: list[Recorded]) -> list[int]:
    return [event.stream_seq for event in events]


def test_what_follows_is_ready_and_what_was_applied_is_repeated() -> None:
    ordered = put_in_order(2, [recorded(2), recorded(3), recorded(3), recorded(4)])
    assert (seqs(ordered.ready), ordered.beyond, ordered.repeated) == ([3, 4], {}, 2)


def test_what_is_behind_a_hole_waits() -> None:
    ordered = put_in_order(0, [recorded(1), recorded(3), recorded(5)])
    assert seqs(ordered.ready) == [1]
    assert sorted(ordered.beyond) == [3, 5]


def test_disorder_within_a_batch_is_no_hole() -> None:
    assert seqs(put_in_order(0, [recorded(3), recorded(1), recorded(2)]).ready) == [1, 2, 3]


def test_a_hole_is_filled_and_what_the_stream_brought_is_kept_as_it_came() -> None:
    ordered = put_in_order(0, [recorded(1, 11), recorded(4, 14)])
    filled = fill(ordered, 0, [recorded(seq, 0) for seq in (2, 3, 4, 5)])
    assert [(event.stream_seq, event.position) for event in filled.ready] == [(1, 11), (2, 0), (3, 0), (4, 14), (5, 0)]
    assert filled.beyond == {}


def test_a_hole_that_is_filled_in_part_stays_open_behind_it() -> None:
    filled = fill(put_in_order(0, [recorded(9)]), 0, [recorded(1, 0), recorded(2, 0)])
    assert seqs(filled.ready) == [1, 2]
    assert list(filled.beyond) == [9]


@given(
    applied=st.integers(0, 10),
    arrived=st.lists(st.integers(0, 30), max_size=60),
    stored=st.integers(0, 30),
)
def test_only_the_unbroken_continuation_is_ever_ready(applied: int, arrived: list[int], stored: int) -> None:
    ordered = put_in_order(applied, map(recorded, arrived))
    known = set(arrived)
    for result in (ordered, fill(ordered, applied, [recorded(seq, 0) for seq in range(applied + 1, stored + 1)])):
        ready = seqs(result.ready)
        assert ready == list(range(applied + 1, applied + 1 + len(ready)))
        following = applied + 1 + len(ready)
        assert following not in known
        assert set(result.beyond) == {seq for seq in known if seq > following}
        known |= set(range(applied + 1, stored + 1))
