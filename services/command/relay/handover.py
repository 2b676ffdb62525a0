"""What this process has committed, on its way to the stream without being read back from the event store.

Invariant: an event is handed on only when it follows right on what is known to be published of its room. Whatever does
not, or does not fit, is left for the event store to tell: ``wanted`` are rooms that have such, ``missed`` says that
there may be more of them.
"""

from collections import OrderedDict, deque
from collections.abc import Iterable, Sequence

from services.command.domain.batch import NewEvent
from services.command.relay.outbox import UnpublishedEvent
from shared.contracts.events import event_type_of
from shared.contracts.ids import RoomKey

MOST_EVENTS = 4000
MOST_BYTES = 16 * 1024 * 1024
MOST_WANTED = 1000
_MOST_ROOMS = 50_000


class Handover:
    """Group commit offers, the relay takes. ``is_open`` while this process leads."""

    def __init__(self) -> None:
        self.is_open = False
        self.missed = False
        self.wanted: set[RoomKey] = set()
        """Rooms to be read from the event store, ``MOST_WANTED`` at the most."""
        self._events: deque[UnpublishedEvent] = deque()
        self._bytes = 0
        self._heads: OrderedDict[RoomKey, int] = OrderedDict()

    def reset(self) -> None:
        """Nothing is known of what is published."""
        self._events.clear()
        self._bytes = 0
        self._heads.clear()
        self.wanted.clear()
        self.missed = True

    @property
    def has_events(self) -> bool:
        """Whether there are events to take."""
        return bool(self._events)

    def head(self, room: RoomKey) -> int | None:
        """How far the room is known to be published."""
        return self._heads.get(room)

    def learn(self, room: RoomKey, stream_seq: int) -> None:
        """The room is published up to there."""
        self._heads[room] = stream_seq
        self._heads.move_to_end(room)
        while len(self._heads) > _MOST_ROOMS:
            self._heads.popitem(last=False)

    def want(self, room: RoomKey) -> None:
        """The room has events that only the event store tells of."""
        if len(self.wanted) < MOST_WANTED or room in self.wanted:
            self.wanted.add(room)
        else:
            self.missed = True

    def offer(self, events: Iterable[NewEvent]) -> None:
        """Takes in events that are committed, in the order of their commits."""
        if not self.is_open:
            return
        for event, envelope, traceparent in events:
            if len(self._events) >= MOST_EVENTS or self._bytes >= MOST_BYTES:
                self.missed = True
                return
            room = RoomKey(event.workspace_id, event.room_id)
            offered = UnpublishedEvent(
                room, event.stream_seq, event.event_id, event_type_of(event), traceparent, envelope
            )
            self._events.append(offered)
            self._bytes += len(envelope)

    def take(self, most: int, most_bytes: int) -> list[UnpublishedEvent]:
        """The next events to publish; up to ``most``, and no further ones once ``most_bytes`` are reached."""
        taken: list[UnpublishedEvent] = []
        size = 0
        heads: dict[RoomKey, int] = {}
        while self._events and len(taken) < most and size < most_bytes:
            event = self._events.popleft()
            self._bytes -= len(event.envelope)
            head = heads.get(event.room) or self._heads.get(event.room, -1)
            if event.stream_seq == head + 1:
                taken.append(event)
                size += len(event.envelope)
                heads[event.room] = event.stream_seq
            elif head < 0 or event.stream_seq > head:
                self.want(event.room)
        return taken

    def published(self, events: Sequence[UnpublishedEvent]) -> None:
        """Remembers how far the rooms are published."""
        for event in events:
            self.learn(event.room, event.stream_seq)
