"""What one transaction is to apply, taken from several partitions.

Invariant: a batch stays the same until it is applied, however often that is tried; only what is no longer ours leaves.
What the stream brings is in a batch with nothing that has to be read again, so that it waits for none of that.
"""

from collections.abc import Callable, Iterable, Sequence
from heapq import nsmallest
from operator import attrgetter
from typing import NamedTuple

from services.projector.ordering import Ordered, fill, put_in_order
from services.projector.partition import Partition, Room, Turn
from services.projector.projection_store import Mark
from services.projector.projections.base import Recorded, RoomEvents

MOST_EVENTS = 2000
MOST_BYTES = 32 * 1024 * 1024
MOST_DUE_ROOMS = 200


class Portion(NamedTuple):
    """What a batch takes from one partition: messages with their subjects, and the checkpoint behind them.

    ``before`` is the checkpoint as it was; ``due`` are rooms to be filled from the event store, and have no messages.
    """

    partition: Partition
    messages: list[tuple[str, Recorded]]
    due: list[Room]
    before: Mark
    after: Mark


class Group(NamedTuple):
    """Consecutive new events of one room."""

    room: Room
    events: Sequence[Recorded]

    def as_room_events(self) -> RoomEvents:
        """What is to be folded: without the event that is to be left out."""
        if not self.skips:
            return RoomEvents(self.room.key, self.events)
        return RoomEvents(self.room.key, [event for event in self.events if event.stream_seq != self.room.skip_at])

    @property
    def follows(self) -> bool:
        """Whether its first event is the room's next one."""
        return self.room.applied_seq + 1 == self.events[0].stream_seq

    @property
    def skips(self) -> bool:
        """Whether one of the events is to be left out."""
        skip_at = self.room.skip_at
        return skip_at > 0 and self.events[0].stream_seq <= skip_at <= self.events[-1].stream_seq


class Batch:
    def __init__(self, portions: Iterable[Portion]) -> None:
        self.portions = list(portions)

    @property
    def messages(self) -> int:
        return sum(len(portion.messages) for portion in self.portions)

    def keep(self, is_ours: Callable[[Partition], bool]) -> bool:
        """Lets go of what is no longer ours. Whether anything is left."""
        self.portions = [portion for portion in self.portions if is_ours(portion.partition)]
        return bool(self.portions)

    def arrivals(self) -> tuple[dict[Room, list[Recorded]], int]:
        """The events per room as they came, and how many messages were of no room."""
        rooms: dict[Room, list[Recorded]] = {}
        strays = 0
        for portion in self.portions:
            room_of = portion.partition.room
            for subject, recorded in portion.messages:
                room = room_of(subject)
                if room is None or recorded.stream_seq == 0:
                    strays += 1
                elif (arrived := rooms.get(room)) is None:
                    rooms[room] = [recorded]
                else:
                    arrived.append(recorded)
            for room in portion.due:
                rooms.setdefault(room, [])
        return rooms, strays


def take_batch(partitions: Sequence[Partition]) -> Batch:
    """The next batch of the stream: everything at hand, up to ``MOST_EVENTS`` and about ``MOST_BYTES``.

    The partitions' order is the order of service; the caller turns it from batch to batch.
    """
    portions: list[Portion] = []
    left = MOST_EVENTS
    bytes_left = MOST_BYTES
    for partition in partitions:
        before = partition.mark()
        messages = partition.take(left, bytes_left) if left > 0 and bytes_left > 0 else []
        if messages:
            portions.append(Portion(partition, messages, [], before, partition.mark()))
            left -= len(messages)
            bytes_left -= sum(len(recorded.envelope) for _, recorded in messages)
    return Batch(portions)


def take_due(partitions: Iterable[Partition], now: float, turn: Turn) -> Batch:
    """A batch of rooms whose time has come for this: those that have been due for longest. ``now`` is monotonic."""
    due = (room for partition in partitions if partition.behind for room in partition.due(now) if room.turn is turn)
    rooms: dict[Partition, list[Room]] = {}
    for room in nsmallest(MOST_DUE_ROOMS, due, key=attrgetter("retry_at")):
        rooms.setdefault(room.partition, []).append(room)
    return Batch(Portion(partition, [], some, partition.mark(), partition.mark()) for partition, some in rooms.items())


class Sorting:
    """The rooms of a batch put in order: what can be applied, and what is missing before the rest."""

    def __init__(self, rooms: dict[Room, list[Recorded]], now: float) -> None:
        self.ordered: dict[Room, Ordered] = {}
        self.open: list[Room] = []
        """Rooms with a hole that is to be filled now."""
        self.repeated = 0
        for room, arrived in rooms.items():
            ordered = put_in_order(room.applied_seq, arrived)
            self.repeated += ordered.repeated
            if room.is_set_aside and (arrived or now < room.retry_at):
                # Behind an event that cannot be applied: all of it comes from the event store once that can be.
                if arrived:
                    room.want(arrived[-1].stream_seq)
                continue
            if ordered.beyond:
                room.want(max(ordered.beyond))
            self.ordered[room] = ordered
            is_due = now >= room.retry_at and not (arrived and room.turn is Turn.RETRY)
            if is_due and room.wanted_seq > room.applied_seq + len(ordered.ready):
                self.open.append(room)
            elif room.wanted_seq and room.wanted_seq <= room.applied_seq:
                room.advance(room.applied_seq)

    def fill(self, room: Room, stored: Sequence[Recorded]) -> int:
        """Adds events from the event store. How many of them were needed."""
        before = self.ordered[room]
        after = fill(before, room.applied_seq, stored)
        self.ordered[room] = after
        return len(after.ready) - len(before.ready)

    def groups(self) -> list[Group]:
        return [Group(room, ordered.ready) for room, ordered in self.ordered.items() if ordered.ready]
