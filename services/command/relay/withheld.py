"""Rooms of which nothing more is published until somebody has seen to them.

Invariant: what a room waits for holds up that room alone. A room is withheld before the first event that cannot be
published, for as long as that event is its next: what is before it goes on.
"""

from collections.abc import Mapping, Sequence

import structlog

from services.command import metrics
from services.command.relay.outbox import Fault, UnpublishedEvent
from shared.contracts.ids import RoomKey
from shared.telemetry import LineBudget, Logger

_MOST_ROOMS = 10_000
"""Remembered and counted; more are withheld all the same."""

_SHOWN = 200
_said = LineBudget(10)


class Withheld:
    def __init__(self) -> None:
        self.strangers: set[RoomKey] = set()
        """Rooms of which the stream holds what the event store does not."""
        self.uncounted: set[RoomKey] = set()
        """Rooms that are yet to be set back to what the stream holds, as somebody keeps them locked."""
        self._faults: dict[RoomKey, Fault] = {}
        self._met: set[RoomKey] = set()
        self._log: Logger = structlog.get_logger("relay")

    def __bool__(self) -> bool:
        return bool(self.strangers or self.uncounted or self._faults)

    def __contains__(self, room: RoomKey) -> bool:
        return room in self._faults or room in self.strangers or room in self.uncounted

    @property
    def has_oversize(self) -> bool:
        """Whether any room waits for a broker that takes more."""
        return "too large" in self._faults.values()

    def sift(
        self, events: Sequence[UnpublishedEvent], known: Mapping[RoomKey, tuple[int, Fault]], most_bytes: int
    ) -> Sequence[UnpublishedEvent]:
        """What of the events can be published. ``known`` are rooms with the seq and the fault of an event left out."""
        first = dict(known)
        for event in events:
            if len(event.envelope) > most_bytes and event.stream_seq <= first.get(event.room, (event.stream_seq,))[0]:
                first[event.room] = (event.stream_seq, "too large")
        if not (first or self):
            return events
        for event in events:
            if event.room not in first:
                self._faults.pop(event.room, None)
        for room, (_, fault) in first.items():
            if self._faults.get(room) != fault and (room in self._faults or len(self._faults) < _MOST_ROOMS):
                self._faults[room] = fault
                self._say(room, fault)
        self._met |= first.keys() & self._faults.keys()
        self._count()
        return [
            event
            for event in events
            if event.room not in self.strangers
            and event.room not in self.uncounted
            and (event.room not in first or event.stream_seq < first[event.room][0])
        ]

    def begin_round(self) -> None:
        """From here on all rooms are gone through."""
        self._met = set()

    def end_round(self) -> None:
        """All rooms have been gone through: one that was not met waits no more."""
        if self._faults.keys() - self._met:
            self._faults = {room: fault for room, fault in self._faults.items() if room in self._met}
            self._count()

    def set_strangers(self, strangers: set[RoomKey]) -> None:
        if news := strangers - self.strangers:
            room = min(news)
            self._log.error(
                "stream_is_not_of_this_store",
                rooms=len(news),
                first_workspace_id=room.workspace_id,
                first_room_id=room.room_id,
            )
        self.strangers = strangers
        metrics.RELAY_STRANGERS.set(len(strangers))

    def _count(self) -> None:
        metrics.RELAY_OVERSIZE.set(len(self._faults))

    def _say(self, room: RoomKey, fault: Fault) -> None:
        if (left_out := _said.take()) is None:
            return
        where = {"workspace_id": room.workspace_id[:_SHOWN], "room_id": room.room_id[:_SHOWN], "left_out": left_out}
        if fault == "too large":
            self._log.error("event_too_large_for_broker", **where)
        else:
            self._log.error("event_cannot_be_published", fault=fault, **where)
