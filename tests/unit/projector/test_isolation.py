"""How a batch that cannot be applied is taken apart."""

from __future__ import annotations

from services.projector.batch import Group
from services.projector.isolation import Tries, Unfit, take_apart
from services.projector.leases import Lease
from services.projector.partition import Partition, Room
from services.projector.projection_store import PoisonError
from services.projector.projections.base import Recorded
from shared.contracts.ids import RoomKey

PARTITION = Partition(Lease(0, 1, "s/0", 0))


def group(room_id: str, *seqs: int) -> Group:
    return Group(Room(RoomKey("ws", room_id), PARTITION), [Recorded(seq, seq, b"") for seq in seqs])


def seqs(parts: list[list[Group]]) -> list[list[tuple[str, list[int]]]]:
    return [[(g.room.key.room_id, [event.stream_seq for event in g.events]) for g in part] for part in parts]


def naming(*groups: Group) -> PoisonError:
    return PoisonError("all", {group.room.key: PoisonError(group.room.key.room_id) for group in groups})


def test_rooms_that_are_named_are_taken_out_together() -> None:
    a, b, c = group("a", 1), group("b", 1, 2), group("c", 1)
    assert take_apart([a, b, c], naming(a, c)) == ([[b], [a, c]], [])


def test_where_all_are_named_single_events_are_unfit_and_others_are_halved_side_by_side() -> None:
    a, b, c = group("a", 1), group("b", 1, 2), group("c", 4, 5, 6)
    error = naming(a, b, c)
    parts, unfit = take_apart([a, b, c], error)
    assert unfit == [Unfit(a, error.of_rooms[a.room.key])]
    assert seqs(parts) == [[("b", [1]), ("c", [4])], [("b", [2]), ("c", [5, 6])]]


def test_where_none_is_named_it_goes_by_halves_of_rooms_then_of_events() -> None:
    a, b, c = group("a", 1, 2), group("b", 1), group("c", 1)
    error = PoisonError("somewhere")
    assert take_apart([a, b, c], error) == ([[a], [b, c]], [])
    assert seqs(take_apart([a], error).parts) == [[("a", [1])], [("a", [2])]]
    assert take_apart([b], error) == ([], [Unfit(b, error)])


def test_tries_are_so_many_and_no_more() -> None:
    tries = Tries(2)
    assert [tries.take() for _ in range(4)] == [True, True, False, False]
