"""Bringing the outbox in line with the stream: by the stream's own tail, never by memory.

Invariant: afterwards it is known of every room which is the last stream_seq the stream holds of it: ``published_seq``,
or what the tail says, which the relay has yet to record. Nothing is published here.

A room of which the stream holds what the event store does not is a stranger: nothing of it may be published. It becomes
one when the event store is an older copy of what it was, or when somebody else has published.
"""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Literal, NamedTuple

import structlog

from services.command.relay.outbox import (
    START,
    list_published,
    read_position,
    reset_published,
    unknown_rooms,
)
from shared.contracts.ids import RoomKey
from shared.contracts.subjects import HEADER_EVENT_ID, STREAM_SUBJECTS, room_of, room_subject, stream_seq_of
from shared.messaging.broker import Broker, BrokerUnavailableError
from shared.messaging.direct_get import (
    MOST_SUBJECTS,
    StoredMessage,
    next_by_leader,
    next_by_subject,
)
from shared.messaging.look_back import last_events_up_to
from shared.messaging.stream import StreamIdentity, StreamSettings, StreamState, ensure_stream, mark_rewound
from shared.postgres import Connection
from shared.telemetry import Logger

Cause = Literal["tail", "recreated", "rewound"]

_TAIL_BATCH = 1000
_MOST_PAGES = 200
"""Of one room, looked through for its last event: 50 MiB."""
_NOTHING = (0, "")

_log: Logger = structlog.get_logger("relay")


class Reconciled(NamedTuple):
    """The stream as it is, what had happened to it, and the rooms in its tail with the last stream_seq of each."""

    stream: StreamState
    cause: Cause
    published: dict[RoomKey, int]
    strangers: set[RoomKey]


async def reconcile(
    connection: Connection, broker: Broker, settings: StreamSettings, reached: tuple[StreamIdentity, int] | None
) -> Reconciled:
    """Makes the stream if there is none. ``reached`` is how far this process knows it to have come, recorded or not."""
    relay = await read_position(connection)
    recorded = StreamIdentity(relay.created, relay.epoch, 0)
    stream = await ensure_stream(broker, settings, reached[0] if reached and relay.is_of(reached[0]) else recorded)
    known = max(relay.position, reached[1]) if reached and reached[0] == stream.identity else relay.position
    if relay.is_of(stream.identity) and known <= stream.last_seq:
        return Reconciled(stream, "tail", *await _read_tail(connection, broker, stream, relay.position))
    published: dict[RoomKey, int] = {}
    strangers: set[RoomKey] = set()
    if relay.created == stream.identity.created:
        # Older than it was. If it has an epoch we never wrote in, a leader died between marking it and recounting, or
        # somebody else has written the one we know.
        # It may still hold some of what was published and not recorded.
        published, strangers = await _read_tail(connection, broker, stream, relay.position)
        if relay.epoch == stream.identity.epoch:
            stream = await mark_rewound(broker, stream)
        cause = "rewound"
    else:
        cause = "recreated"
    if relay.created:
        _log.warning("stream_changed", cause=cause, was_at=relay.position, is_at=stream.last_seq)
    await _recount(connection, broker, stream, settings)
    return Reconciled(stream, cause, published, strangers)


async def _read_tail(
    connection: Connection, broker: Broker, stream: StreamState, position: int
) -> tuple[dict[RoomKey, int], set[RoomKey]]:
    """The rooms in the stream behind the position with the last stream_seq of each, and those that are strangers."""
    last: dict[RoomKey, tuple[int, str]] = {}
    position = max(position, stream.first_seq - 1)
    while position < stream.last_seq:
        messages = await next_by_subject(broker, STREAM_SUBJECTS, position + 1, _TAIL_BATCH, seconds=10.0)
        if not messages:
            # Nothing of ours may stand there, or nothing any more. Or whoever answered is behind, and what is missed
            # would be published a second time.
            if await next_by_leader(broker, STREAM_SUBJECTS, position + 1) is None:
                break
            raise BrokerUnavailableError(f"the stream's tail from {position + 1} to {stream.last_seq} is not to be had")
        for message in messages:
            room, event = _event_of(message)
            if room is not None and event[0] > last.get(room, _NOTHING)[0]:
                last[room] = event
        position = messages[-1].position
    return await _judge(connection, last)


async def find_heads(
    connection: Connection, broker: Broker, rooms: Sequence[RoomKey], position: int
) -> tuple[dict[RoomKey, int], set[RoomKey]]:
    """Those of the rooms that the stream holds, with the last stream_seq of each, and those that are strangers.

    At most ``MOST_SUBJECTS`` rooms; by the word of a replica that has come to ``position`` at least.
    """
    if position == 0:
        return {}, set()
    return await _judge(connection, await _last_events(broker, rooms, position))


async def _last_events(
    broker: Broker, rooms: Sequence[RoomKey], position: int, seconds: float = 5.0
) -> dict[RoomKey, tuple[int, str]]:
    """The stream_seq and the id of the last event of each room, by the word of a replica that has come so far.

    Where more stands in the way that is no event than is looked through, it is one before that, or none: then readers
    drop what is published a second time, and no other room waits for that one.
    """
    subjects = {room_subject(*room): room for room in rooms}
    events = await last_events_up_to(
        broker, list(subjects), _read_event, position, seconds=seconds, most_pages=_MOST_PAGES
    )
    if events.unsure:
        _log.warning("rooms_not_looked_through", rooms=len(events.unsure), first_subject=min(events.unsure))
    return {subjects[subject]: event for subject, event in events.found.items()}


async def _judge(
    connection: Connection, last: dict[RoomKey, tuple[int, str]]
) -> tuple[dict[RoomKey, int], set[RoomKey]]:
    """``last`` are stream_seq and event id of the last event that the stream holds of each room."""
    strangers = await unknown_rooms(connection, last) if last else set[RoomKey]()
    return {room: stream_seq for room, (stream_seq, _) in last.items() if room not in strangers}, strangers


async def _recount(connection: Connection, broker: Broker, stream: StreamState, settings: StreamSettings) -> None:
    oldest_kept = datetime.now(UTC) - timedelta(seconds=settings.max_age_seconds)
    after = START
    while rooms := await list_published(connection, after, MOST_SUBJECTS):
        found = dict.fromkeys(rooms, 0)
        if stream.last_seq:
            last = await _last_events(broker, rooms, stream.last_seq, seconds=10.0)
            found |= {room: stream_seq for room, (stream_seq, _) in last.items()}
        await reset_published(connection, found, oldest_kept)
        after = rooms[-1]


def _event_of(message: StoredMessage) -> tuple[RoomKey | None, tuple[int, str]]:
    """The room, and the stream_seq and the id of the event: 0 and empty where it is none."""
    return room_of(message.subject), (stream_seq_of(message.headers), message.headers.get(HEADER_EVENT_ID, ""))


def _read_event(message: StoredMessage) -> tuple[int, str] | None:
    _, event = _event_of(message)
    return event if event[0] else None
