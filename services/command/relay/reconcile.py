"""Bringing the outbox in line with the stream: by the stream's own tail, never by memory.

Invariant: afterwards it is known of every room which is the last stream_seq the stream holds of it: ``published_seq``,
or what the tail says, which the relay has yet to record. Nothing is published here.
"""

from typing import Literal, NamedTuple

import structlog

from services.command.relay.outbox import read_position
from services.command.relay.recount import Recount
from services.command.relay.tail import read_tail
from services.command.relay.unrecorded import Standing, Unrecorded
from shared.contracts.ids import RoomKey
from shared.messaging.broker import Broker
from shared.messaging.stream import StreamIdentity, StreamSettings, StreamState, ensure_stream, mark_rewound
from shared.postgres import Connection
from shared.telemetry import Logger

Cause = Literal["tail", "recreated", "rewound"]

_log: Logger = structlog.get_logger("relay")


class Reconciled(NamedTuple):
    """The stream as it is, what had happened to it, and the rooms in its tail that are strangers."""

    stream: StreamState
    cause: Cause
    strangers: set[RoomKey]


async def reconcile(
    connection: Connection,
    broker: Broker,
    settings: StreamSettings,
    reached: Standing | None,
    unrecorded: Unrecorded,
    recount: Recount,
) -> Reconciled:
    """Makes the stream if there is none. ``reached`` is how far this process knows it to have come, recorded or not.

    ``unrecorded`` becomes what the tail says of the other rooms and is not recorded yet.
    """
    relay = await read_position(connection)
    recorded = StreamIdentity(relay.created, relay.epoch, 0)
    stream = await ensure_stream(
        broker, settings, reached.identity if reached and relay.is_of(reached.identity) else recorded
    )
    known = max(relay.position, reached.position) if reached and reached.identity == stream.identity else relay.position
    unrecorded.clear()
    if relay.is_of(stream.identity) and known <= stream.last_seq:
        recount.forget()
        strangers = await read_tail(connection, broker, stream, relay.position, unrecorded, records=True)
        return Reconciled(stream, "tail", strangers)
    strangers = set[RoomKey]()
    if relay.created == stream.identity.created:
        # Older than it was. If it has an epoch we never wrote in, a leader died between marking it and recounting, or
        # somebody else has written the one we know.
        # It may still hold some of what was published and not recorded.
        strangers = await read_tail(connection, broker, stream, relay.position, unrecorded, records=False)
        if relay.epoch == stream.identity.epoch:
            stream = await mark_rewound(broker, stream)
        cause = "rewound"
    else:
        cause = "recreated"
    if relay.created:
        _log.warning("stream_changed", cause=cause, was_at=relay.position, is_at=stream.last_seq)
    await recount.run(connection, broker, stream, settings)
    return Reconciled(stream, cause, strangers)
