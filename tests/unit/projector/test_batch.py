"""What goes into a batch, and what becomes of rooms that are behind."""

from __future__ import annotations

import time

import pytest

from services.projector import batch as batches
from services.projector import partition as partitions
from services.projector.batch import Sorting, take_batch, take_due
from services.projector.consumer import Consumer
from services.projector.leases import Lease
from services.projector.partition import UNKNOWN, Partition, Room, Turn
from services.projector.projections.base import Recorded
from shared.contracts.ids import RoomKey
from shared.contracts.subjects import partition_of, room_subject

KEY = RoomKey("ws", "room")
NOW = 1000.0


def owned(number: int = partition_of(*KEY), position: int = 0) -> Partition:
    partition = Partition(Lease(number, 1, "created/0", position))
    partition.consumer = Consumer("name", number, position + 1, "created/0")
    return partition


def arrive(partition: Partition, seqs: list[int], size: int = 1, subject: str = room_subject(*KEY)) -> None:
    assert partition.consumer is not None
    position = partition.position
    for seq in seqs:
        position += 1
        partition.consumer.buffer.append((subject, Recorded(seq, position, b"x" * size)))


def known(partition: Partition, applied_seq: int) -> Room:
    room = partition.room(room_subject(*KEY))
    assert room is not None
    room.applied_seq = applied_seq
    return room


def test_a_batch_takes_what_is_at_hand_and_knows_both_checkpoints() -> None:
    partition, idle = owned(position=10), owned(number=(partition_of(*KEY) + 1) % 32)
    arrive(partition, [1, 2, 3])
    (portion,) = take_batch([partition, idle]).portions
    assert portion.partition is partition
    assert (portion.before.position, portion.after.position) == (10, 13)
    assert take_batch([partition, idle]).portions == []


def test_a_batch_is_bounded_in_events_and_in_bytes() -> None:
    partition, other = owned(), owned()
    arrive(partition, list(range(1, batches.MOST_EVENTS + 500)))
    arrive(other, [1])
    (portion,) = take_batch([partition, other]).portions
    assert len(portion.messages) == batches.MOST_EVENTS
    large = owned()
    arrive(large, list(range(1, 11)), size=batches.MOST_BYTES // 4)
    assert len(take_batch([large]).portions[0].messages) == 4


def test_nothing_is_taken_from_a_consumer_with_a_fault() -> None:
    partition = owned()
    arrive(partition, [1])
    assert partition.consumer is not None
    partition.consumer.fault = "gap"
    assert take_batch([partition]).portions == []
    assert partition.position == 0


def test_what_is_lost_meanwhile_leaves_the_batch() -> None:
    mine, lost = owned(), owned()
    arrive(mine, [1])
    arrive(lost, [1])
    batch = take_batch([mine, lost])
    assert batch.keep(lambda partition: partition is mine)
    assert [portion.partition for portion in batch.portions] == [mine]
    assert not batch.keep(lambda partition: False)


def test_messages_of_other_partitions_and_without_a_seq_are_of_no_room() -> None:
    partition = owned()
    arrive(partition, [1, 0])
    elsewhere = next(f"r{n}" for n in range(100) if partition_of("ws", f"r{n}") != partition.number)
    arrive(partition, [1], subject=f"rooms.{partition.number}.ws.{elsewhere}")
    arrive(partition, [1], subject="rooms.odd")
    odd = next(f"\x00{n}" for n in range(1000) if partition_of("ws", f"\x00{n}") == partition.number)
    arrive(partition, [1], subject=f"rooms.{partition.number}.ws.{odd}")
    rooms, strays = take_batch([partition]).arrivals()
    assert [(room.key, [event.stream_seq for event in events]) for room, events in rooms.items()] == [(KEY, [1])]
    assert strays == 4


def test_a_hole_is_asked_for_and_filled() -> None:
    room = known(owned(), 1)
    sorting = Sorting({room: [Recorded(2, 7, b"2"), Recorded(5, 8, b"5")]}, NOW)
    assert sorting.open == [room]
    assert room.wanted_seq == 5
    assert sorting.fill(room, [Recorded(seq, 0, b"") for seq in (3, 4, 5)]) == 3
    (group,) = sorting.groups()
    assert [(event.stream_seq, event.position) for event in group.events] == [(2, 7), (3, 0), (4, 0), (5, 8)]
    room.advance(5)
    assert room.wanted_seq == 0
    assert room.partition.behind == {}


def test_a_hole_that_cannot_be_filled_is_tried_again_later_and_stops_nobody() -> None:
    room = known(owned(), 0)
    sorting = Sorting({room: [Recorded(9, 1, b"9")]}, NOW)
    assert sorting.fill(room, []) == 0
    room.postpone()
    sorting = Sorting({room: [Recorded(1, 2, b"1")]}, time.monotonic())
    assert sorting.open == []
    assert [event.stream_seq for group in sorting.groups() for event in group.events] == [1]
    room.advance(1)
    assert room.partition.behind == {room_subject(*KEY): room}


def test_a_held_room_waits_and_remembers_what_came() -> None:
    room = known(owned(), 3)
    assert room.hold(4, "ValueError")
    assert not room.hold(4, "ValueError"), "no news the second time"
    now = time.monotonic()
    sorting = Sorting({room: [Recorded(4, 1, b""), Recorded(5, 2, b"")]}, now)
    assert (sorting.groups(), sorting.open, room.wanted_seq) == ([], [], 5)
    assert list(room.partition.due(now)) == []
    later = now + 3600
    assert list(room.partition.due(later)) == [room]
    assert Sorting({room: []}, later).open == [room]
    room.advance(4)
    assert (room.held_at, list(room.partition.behind)) == (0, [room_subject(*KEY)])
    room.advance(5)
    assert room.partition.behind == {}


def test_what_comes_of_a_held_room_that_is_due_waits_for_its_turn() -> None:
    """It would take the new events of other rooms with it."""
    room = known(owned(), 3)
    room.hold(4, "ValueError")
    room.retry_at = NOW - 1
    sorting = Sorting({room: [Recorded(4, 1, b""), Recorded(5, 2, b"")]}, NOW)
    assert (sorting.groups(), sorting.open, room.wanted_seq) == ([], [], 5)


def test_what_was_in_doubt_waits_for_its_turn_and_keeps_it() -> None:
    partition = owned()
    room = known(partition, 3)
    room.suspect(5)
    since = room.retry_at
    room.suspect(6)
    assert (room.retry_at, room.wanted_seq, room.lag, room.turn) == (since, 6, 3, Turn.RETRY)
    assert Sorting({room: [Recorded(4, 1, b"")]}, since + 1).groups() == []
    assert Sorting({room: []}, since + 1).open == [room]
    room.advance(5)
    assert (room.turn, room.wanted_seq) == (Turn.FIRST, 6)


def test_what_is_new_and_what_waits_for_different_things_have_batches_of_their_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(batches, "MOST_DUE_ROOMS", 2)
    partition, other = owned(), owned(number=(partition_of(*KEY) + 1) % 32)
    names = [f"r{number}" for number in range(400) if partition_of("ws", f"r{number}") == partition.number]
    rooms = [room for name in names[:6] if (room := partition.room(room_subject("ws", name))) is not None]
    parked, first, wished, older, oldest, later = rooms
    for room, waits in ((parked, 1), (older, 2), (oldest, 3), (later, -1)):
        room.hold(1, "ValueError")
        room.retry_at = NOW - waits
    first.want(3)
    wished.hold(1, "ValueError")
    wished.try_now(skip=True)
    arrive(partition, [1])
    (portion,) = take_batch([partition, other]).portions
    assert (len(portion.messages), portion.due) == (1, [])
    taken = {turn: [portion.due for portion in take_due([partition, other], NOW, turn).portions] for turn in Turn}
    assert taken == {Turn.WISHED: [[wished]], Turn.FIRST: [[first]], Turn.RETRY: [[oldest, older]]}


def test_a_room_whose_events_are_not_there_yet_is_asked_for_again_in_its_turn_alone() -> None:
    room = known(owned(), 0)
    room.want(2)
    room.postpone()
    room.retry_at = NOW - 1
    assert Sorting({room: [Recorded(9, 1, b"9")]}, NOW).open == []
    assert Sorting({room: []}, NOW).open == [room]


def test_a_held_room_is_tried_again_for_as_long_as_it_takes() -> None:
    room = known(owned(), 3)
    for _ in range(3000):
        room.hold(4, "ValueError")
    assert 55 < room.retry_at - time.monotonic() <= 60


def test_rooms_are_forgotten_beyond_a_bound_but_not_those_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(partitions, "MOST_ROOMS", 5)
    partition = owned()
    room = known(partition, 3)
    room.want(9)
    names = [f"n{number}" for number in range(600) if partition_of("ws", f"n{number}") == partition.number]
    assert len(names) > 10
    others = [partition.room(room_subject("ws", name)) for name in names]
    partition.trim()
    assert partition.room(room_subject(*KEY)) is room
    again = [partition.room(room_subject("ws", name)) for name in names]
    assert [one is other for one, other in zip(others, again, strict=True)].count(True) == 5
    partition.doubt()
    assert room.applied_seq == UNKNOWN


def test_a_room_that_is_let_go_counts_nothing_of_what_was_said_of_it() -> None:
    """Or what it wants next would be behind by all that a made-up number had said."""
    room = known(owned(), 3)
    room.want(10**17)
    room.hold_again(10**17, "UnknownEventError", 1)
    room.let_go()
    room.want(5)
    assert room.lag == 2
