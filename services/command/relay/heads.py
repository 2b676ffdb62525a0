"""What the stream holds last of rooms that are asked about, and whether the event store knows it.

Invariant: what was not come to is said, and costs nobody the lease. A room of which the stream holds what the event
store does not is a stranger: nothing of it may be published. It becomes one when the event store is an older copy of
what it was, or when somebody else has published.

The stream answers with whole messages, of which a room's last may be as large as NATS takes any.
"""

import time
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import structlog

from services.command.relay.leader import keep_leading
from services.command.relay.outbox import unknown_rooms
from shared.contracts.ids import RoomKey
from shared.contracts.subjects import HEADER_EVENT_ID, room_of, room_subject, stream_seq_of
from shared.messaging.broker import Broker
from shared.messaging.direct_get import StoredMessage
from shared.messaging.look_back import last_events_up_to
from shared.postgres import Connection
from shared.telemetry import Logger

_SECONDS = 0.5
"""For which rooms are asked about at a time: so long, at the most, waits what is to be published of others."""
_MOST_PAGES = 200
"""Of one room, looked through for its last event: 50 MiB."""

_log: Logger = structlog.get_logger("relay")


class Event(NamedTuple):
    """The stream_seq and the id of an event: 0 and empty of what is none."""

    stream_seq: int
    event_id: str


class Heads(NamedTuple):
    """Those of the rooms that the stream holds, with the last stream_seq of each; those that are strangers; and those
    that were ``left`` to be asked about, which are not all."""

    found: dict[RoomKey, int]
    strangers: set[RoomKey]
    left: set[RoomKey]


class LastOf(NamedTuple):
    """The last event of each of the rooms that the stream holds, and those that were ``left``, which are not all."""

    found: dict[RoomKey, Event]
    left: set[RoomKey]


async def find_heads(connection: Connection, broker: Broker, rooms: Sequence[RoomKey], position: int) -> Heads:
    """At most ``MOST_SUBJECTS`` rooms; by the word of a replica that has come to ``position`` at least."""
    last, left = await last_events(connection, broker, rooms, position)
    return Heads(*await judge(connection, last), left)


async def last_events(connection: Connection, broker: Broker, rooms: Sequence[RoomKey], position: int) -> LastOf:
    """The same without judging them.

    Where more stands in the way that is no event than is looked through, it is an event before that, or none: then
    readers drop what is published a second time, and no other room waits for that one.
    """
    if position == 0:
        return LastOf({}, set())
    until = time.monotonic() + _SECONDS

    async def go_on() -> bool:
        await keep_leading(connection)
        return time.monotonic() < until

    subjects = {room_subject(*room): room for room in rooms}
    events = await last_events_up_to(broker, list(subjects), _read_event, position, most_pages=_MOST_PAGES, go_on=go_on)
    if events.unsure:
        _log.warning("rooms_not_looked_through", rooms=len(events.unsure), first_subject=min(events.unsure))
    found = {subjects[subject]: event for subject, event in events.found.items()}
    return LastOf(found, {subjects[subject] for subject in events.left})


async def judge(connection: Connection, last: Mapping[RoomKey, Event]) -> tuple[dict[RoomKey, int], set[RoomKey]]:
    """The rooms whose last event on the stream is the store's, with its stream_seq, and those that are strangers."""
    strangers = await unknown_rooms(connection, last)
    return {room: event.stream_seq for room, event in last.items() if room not in strangers}, strangers


def event_of(message: StoredMessage) -> tuple[RoomKey | None, Event]:
    event = Event(stream_seq_of(message.headers), message.headers.get(HEADER_EVENT_ID, ""))
    return room_of(message.subject), event


def _read_event(message: StoredMessage) -> Event | None:
    _, event = event_of(message)
    return event if event.stream_seq else None
