"""How partitions are shared out."""

from hypothesis import given
from hypothesis import strategies as st

from services.projector.shares import fair_share, turns_of

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


def test_every_worker_counts_the_same_turns_in_whatever_order_projections_were_taken_up() -> None:
    announced = [["runs", "room_feed@2"], ["room_feed@2", "runs"], ["runs", "room_feed@2"]]
    assert turns_of(announced) == turns_of(reversed(announced)) == {"room_feed@2": 0, "runs": 1}


@given(workers=st.lists(st.permutations(["runs", "room_feed", "room_feed@2"]), min_size=1, max_size=7))
def test_shares_of_workers_that_differ_in_order_add_up(workers: list[list[str]]) -> None:
    names = [f"worker {number}" for number in range(len(workers))]
    turns = turns_of(workers)
    for projection in workers[0]:
        assert sum(fair_share(32, names, name, turns[projection]) for name in names) == 32
