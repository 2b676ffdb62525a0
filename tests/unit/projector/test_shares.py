"""How partitions are shared out."""

from hypothesis import given
from hypothesis import strategies as st

from services.projector.shares import fair_share

names = st.sets(st.text(min_size=1, max_size=8), min_size=1, max_size=40)


@given(workers=names, partitions=st.integers(0, 64), turn=st.integers(0, 5))
def test_shares_add_up_and_differ_by_one_at_the_most(workers: set[str], partitions: int, turn: int) -> None:
    shares = [fair_share(partitions, workers, worker, turn) for worker in workers]
    assert sum(shares) == partitions
    assert max(shares) - min(shares) <= 1


@given(workers=names, partitions=st.integers(0, 64), projections=st.integers(1, 6))
def test_no_worker_gets_the_odd_partitions_of_every_projection(
    workers: set[str], partitions: int, projections: int
) -> None:
    totals = [sum(fair_share(partitions, workers, worker, turn) for turn in range(projections)) for worker in workers]
    assert max(totals) - min(totals) <= 1


def test_a_worker_counts_itself_before_others_see_it() -> None:
    assert fair_share(32, ["a"], "b", 0) == 16
    assert fair_share(32, [], "b", 0) == 32
