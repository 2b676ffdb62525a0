"""What a worker knows of a partition it owns, and of the rooms in it.

Invariant: it lives as long as the lease. Another lease of the same partition starts from what the database says.
"""

import time
from collections.abc import Iterator
from enum import Enum
from itertools import islice
from typing import NamedTuple

from services.projector.consumer import Consumer
from services.projector.leases import Lease
from services.projector.projection_store import Mark
from services.projector.projections.base import Recorded
from shared.contracts.ids import RoomKey
from shared.contracts.subjects import partition_of, room_of, room_subject

MOST_ROOMS = 2048
"""Rooms remembered per partition; of others the applied seq is read again."""
UNKNOWN = -1
_LONGEST_WAIT = 5.0
_LONGEST_HOLD = 60.0


class HeldRoom(NamedTuple):
    """A room held back before event ``seq``."""

    key: RoomKey
    seq: int
    reason: str


class Turn(Enum):
    """What a room that wants events from the event store waits for, and with which others it is served."""

    WISHED = "its parked event is to be seen to, as an operator wants it"
    FIRST = "its events are to be read for the first time, or went well so far"
    RETRY = "its events could not be had or not be applied, by themselves or among others"


class Room:
    """One room of a partition. ``applied_seq`` is ``UNKNOWN`` until it was read.

    ``wanted_seq`` is a seq that is said to exist and that the stream alone did not lead to; the events up to there are
    read from the event store, not before ``retry_at`` (monotonic seconds). ``counted_seq`` is up to where they count as
    yet to be applied: not beyond what the event store has, once it was asked. ``held_at`` is the seq of the event that
    cannot be applied and is parked, 0 when there is none, ``reason`` what is wrong with it, and ``skip_at`` the same
    seq when it is to be left out. ``is_suspect`` says that its next events were among others that could not be applied,
    and that nobody knows yet whose fault that was. ``is_holed`` says that the event store counts the next event and
    does not have it: the room waits for an operator then, too.
    """

    __slots__ = (
        "applied_seq",
        "attempts",
        "counted_seq",
        "held_at",
        "is_holed",
        "is_suspect",
        "key",
        "partition",
        "reason",
        "retry_at",
        "skip_at",
        "wanted_seq",
    )

    def __init__(self, key: RoomKey, partition: "Partition") -> None:
        self.key = key
        self.partition = partition
        self.applied_seq = UNKNOWN
        self.wanted_seq = 0
        self.counted_seq = 0
        self.retry_at = 0.0
        self.attempts = 0
        self.held_at = 0
        self.skip_at = 0
        self.is_suspect = False
        self.is_holed = False
        self.reason = ""

    @property
    def is_set_aside(self) -> bool:
        """Whether what comes of it is read from the event store later, apart from what comes of others."""
        return self.held_at > 0 or self.is_suspect

    @property
    def turn(self) -> Turn:
        if self.held_at and self.retry_at == 0:
            return Turn.WISHED
        return Turn.RETRY if self.attempts or self.is_set_aside else Turn.FIRST

    def want(self, seq: int) -> None:
        """Remembers that events up to ``seq`` exist."""
        self.wanted_seq = max(self.wanted_seq, seq)
        self.counted_seq = max(self.counted_seq, seq)
        self.partition.behind[room_subject(*self.key)] = self

    def ends_at(self, seq: int) -> None:
        """The event store has nothing behind ``seq``. What is wanted stays so: it may have it later."""
        self.counted_seq = min(self.counted_seq, seq)

    @property
    def lag(self) -> int:
        """Events wanted that the event store has, as far as is known. 0 while the room waits for an operator."""
        return 0 if self.held_at or self.is_holed else max(self.counted_seq - max(self.applied_seq, 0), 0)

    def postpone(self, longest: float = _LONGEST_WAIT) -> None:
        """Puts the next try off, further each time, by ``longest`` seconds at the most."""
        self.attempts += 1
        self.retry_at = time.monotonic() + min(0.25 * 2 ** min(self.attempts, 16), longest)

    def suspect(self, seq: int) -> None:
        """Leaves its events up to ``seq`` to a later try. A room that waits for one keeps its place."""
        if not self.is_set_aside:
            self.is_suspect = True
            self.retry_at = time.monotonic()
        self.want(seq)

    def hold(self, seq: int, reason: str) -> bool:
        """Stops the room before event ``seq``. Whether that is news."""
        news = self.held_at != seq
        self.held_at = seq
        self.is_suspect = False
        self.reason = reason
        self.want(seq)
        self.postpone(_LONGEST_HOLD)
        return news

    def hold_again(self, seq: int, reason: str, attempts: int) -> None:
        """Takes over what a worker before us had parked."""
        self.attempts = max(attempts, 0)
        self.hold(seq, reason)

    def try_now(self, *, skip: bool) -> None:
        """Tries the parked event at once, or leaves it out."""
        self.retry_at = 0.0
        self.skip_at = self.held_at if skip else 0

    def let_go(self) -> None:
        """What held the room back is no event of it, nor is what was wanted of it behind that."""
        self.attempts = 0
        self.held_at = 0
        self.skip_at = 0
        self.want_nothing()

    def advance(self, seq: int) -> None:
        """Everything up to ``seq`` is applied."""
        self.applied_seq = seq
        self.is_holed = False
        self.attempts = 0
        self.held_at = 0
        self.skip_at = 0
        self.is_suspect = False
        if seq >= self.wanted_seq and self.wanted_seq:
            self.want_nothing()

    def want_nothing(self) -> None:
        """Forgets what was wanted. What is wanted next is read at once."""
        self.wanted_seq = self.counted_seq = 0
        self.is_holed = False
        self.retry_at = 0.0
        self.is_suspect = False
        self.partition.behind.pop(room_subject(*self.key), None)


class Partition:
    """One owned partition. ``stream_key`` and ``position`` are what the next commit puts into the checkpoint."""

    def __init__(self, lease: Lease) -> None:
        self.number = lease.partition
        self.epoch = lease.epoch
        self.stream_key = lease.stream_key
        # None is below 0, whoever wrote it: read from the start, what comes again is dropped by its stream_seq.
        self.position = max(lease.position, 0)
        self.consumer: Consumer | None = None
        self.in_hand: list[tuple[str, Recorded]] = []
        """What was taken and is not yet applied."""
        self.behind: dict[str, Room] = {}
        self.unread = 0
        """Messages that the stream holds behind ``position``, as last asked while there was no consumer."""
        self.next_unread: tuple[RoomKey, int] | None = None
        """Room and seq of the first of them."""
        self._rooms: dict[str, Room] = {}

    @property
    def is_quiet(self) -> bool:
        """Whether everything the stream holds of the partition has been taken from it."""
        consumer = self.consumer
        return consumer is not None and consumer.fault is None and not consumer.buffer and not consumer.pending

    @property
    def is_read(self) -> bool:
        """Whether there is a consumer that is of use."""
        return self.consumer is not None and self.consumer.fault is None

    @property
    def lag(self) -> int:
        """Events yet to be applied, as far as the worker knows of them; without rooms that wait for an operator."""
        arrived = len(self.consumer.buffer) + self.consumer.pending if self.consumer else 0
        if not self.is_read:
            arrived = max(arrived, self.unread)
        behind = sum(room.lag for room in self.behind.values())
        return arrived + len(self.in_hand) + behind

    def next_places(self, most: int) -> list[tuple[RoomKey, int]]:
        """Rooms and seqs among which is the oldest event that ``lag`` counts, ``most`` of those behind at the most."""
        behind = (room for room in self.behind.values() if room.lag)
        places = [(room.key, room.applied_seq + 1) for room in islice(behind, most)]
        waiting = self.in_hand or (self.consumer.buffer if self.consumer else ())
        for subject, recorded in islice(waiting, 1):
            if key := room_of(subject):
                places.append((key, recorded.stream_seq))
        if self.next_unread and not self.is_read:
            places.append(self.next_unread)
        return places

    def take(self, most: int, most_bytes: int) -> list[tuple[str, Recorded]]:
        """Up to ``most`` messages from the buffer, with their subjects; ``position`` moves with them.

        The one that goes beyond ``most_bytes`` is the last.
        """
        consumer = self.consumer
        if consumer is None or consumer.fault is not None or not consumer.buffer:
            return []
        buffer = consumer.buffer
        taken: list[tuple[str, Recorded]] = []
        while buffer and len(taken) < most and most_bytes > 0:
            message = buffer.popleft()
            taken.append(message)
            most_bytes -= len(message[1].envelope)
        self.position = taken[-1][1].position
        self.in_hand = taken
        return taken

    def restart(self, consumer: Consumer, position: int) -> None:
        """Goes on with another consumer, which starts right after ``position``.

        With another stream, what only the one before had led to is no longer wanted.
        """
        self.consumer = consumer
        if consumer.stream_key != self.stream_key:
            for room in list(self.behind.values()):
                if not room.held_at and room.counted_seq <= room.applied_seq:
                    room.want_nothing()
        self.stream_key = consumer.stream_key
        self.position = position

    def mark(self) -> Mark:
        return Mark(self.number, self.epoch, self.stream_key, self.position)

    def room(self, subject: str) -> Room | None:
        """The room with this subject, or None when it is no subject of a room of this partition."""
        room = self._rooms.get(subject)
        if room is not None:
            return room
        room = self.behind.get(subject)
        if room is None:
            key = room_of(subject)
            if key is None or partition_of(*key) != self.number:
                return None
            room = Room(key, self)
        self._rooms[subject] = room
        return room

    @property
    def held(self) -> int:
        """How many rooms are held back."""
        return sum(room.held_at > 0 for room in self.behind.values())

    def held_rooms(self) -> list[HeldRoom]:
        return [HeldRoom(room.key, room.held_at, room.reason) for room in self.behind.values() if room.held_at]

    def due(self, now: float) -> Iterator[Room]:
        """Rooms that wait for events from the event store, and whose time has come."""
        return (room for room in self.behind.values() if room.retry_at <= now)

    def trim(self) -> None:
        """Forgets the rooms longest known beyond ``MOST_ROOMS``. Not while any of them is being worked on."""
        for subject in list(self._rooms)[: max(len(self._rooms) - MOST_ROOMS, 0)]:
            del self._rooms[subject]

    def doubt(self) -> None:
        """A commit's outcome is unknown: every applied seq is to be read again."""
        for room in (*self._rooms.values(), *self.behind.values()):
            room.applied_seq = UNKNOWN
