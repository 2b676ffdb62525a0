"""Each source of the relay's has its turn."""

from itertools import permutations

from services.command.relay.source import Source, source_after

ALL: tuple[Source, ...] = ("wanted", "all rooms", "offered")


def test_whatever_is_always_due_everything_else_has_its_turn() -> None:
    for first in ALL:
        turns: list[Source] = [first]
        while len(turns) < 7:
            turns.append(source_after(turns[-1], ALL))
        assert all(set(turns[at : at + 3]) == set(ALL) for at in range(5))


def test_two_that_are_due_take_turns() -> None:
    for one, other in permutations(ALL, 2):
        assert source_after(one, (one, other)) == other


def test_what_alone_is_due_is_next() -> None:
    for last in ALL:
        for one in ALL:
            assert source_after(last, (one,)) == one
        assert source_after(last, ()) == "offered"
