"""Bringing the outbox in line with the stream: by the stream's own tail, never by memory.

Invariant: afterwards ``published_seq`` of every room is the last stream_seq the stream holds of it, and the relay's
position is the stream's last message. Nothing is published here.
"""

from datetime import UTC, datetime, timedelta
from typing import Literal

import structlog

from services.command.relay.outbox import (
    START,
    list_published,
    read_position,
    record_published,
    reset_published,
)
from shared.contracts.ids import RoomKey
from shared.contracts.subjects import HEADER_STREAM_SEQ, STREAM_SUBJECTS, room_subject
from shared.messaging.broker import Broker, BrokerUnavailableError
from shared.messaging.direct_get import MOST_SUBJECTS, StoredMessage, last_by_subjects_up_to, next_by_subject
from shared.messaging.stream import StreamSettings, StreamState, ensure_stream, mark_rewound
from shared.postgres import Connection
from shared.telemetry import Logger

Cause = Literal["tail", "recreated", "rewound"]

_TAIL_BATCH = 1000

_log: Logger = structlog.get_logger("relay")


async def reconcile(connection: Connection, broker: Broker, settings: StreamSettings) -> tuple[StreamState, Cause]:
    """The stream as it is, made if there was none, with the outbox in line with it; and what had happened to it."""
    stream = await ensure_stream(broker, settings)
    relay = await read_position(connection)
    if relay.is_of(stream.identity) and relay.position <= stream.last_seq:
        await _read_tail(connection, broker, stream, relay.position)
        return stream, "tail"
    if relay.created == stream.identity.created:
        # Older than it was. If it has an epoch we never wrote in, a leader died between marking it and recounting.
        if relay.epoch == stream.identity.epoch:
            stream = await mark_rewound(broker, stream)
        cause = "rewound"
    else:
        cause = "recreated"
    if relay.created:
        _log.warning("stream_changed", cause=cause, was_at=relay.position, is_at=stream.last_seq)
    await _recount(connection, broker, stream, settings)
    return stream, cause


async def _read_tail(connection: Connection, broker: Broker, stream: StreamState, position: int) -> None:
    published: dict[RoomKey, int] = {}
    position = max(position, stream.first_seq - 1)
    while position < stream.last_seq:
        messages = await next_by_subject(broker, STREAM_SUBJECTS, position + 1, _TAIL_BATCH, seconds=10.0)
        if not messages:
            # What is missed here would be published a second time.
            raise BrokerUnavailableError(f"the stream's tail from {position + 1} to {stream.last_seq} is not to be had")
        for message in messages:
            room, stream_seq = _read(message)
            published[room] = max(published.get(room, 0), stream_seq)
        position = messages[-1].position
    await record_published(connection, published, stream.identity, stream.last_seq)


async def _recount(connection: Connection, broker: Broker, stream: StreamState, settings: StreamSettings) -> None:
    oldest_kept = datetime.now(UTC) - timedelta(seconds=settings.max_age_seconds)
    after = START
    while rooms := await list_published(connection, after, MOST_SUBJECTS):
        found = dict.fromkeys(rooms, 0)
        if stream.last_seq:
            subjects = [room_subject(*room) for room in rooms]
            for message in await last_by_subjects_up_to(broker, subjects, stream.last_seq, seconds=10.0):
                room, stream_seq = _read(message)
                found[room] = stream_seq
        await reset_published(connection, found, oldest_kept)
        after = rooms[-1]
    await record_published(connection, {}, stream.identity, stream.last_seq)


def _read(message: StoredMessage) -> tuple[RoomKey, int]:
    _, _, workspace_id, room_id = message.subject.split(".")
    return RoomKey(workspace_id, room_id), int(message.headers[HEADER_STREAM_SEQ])
