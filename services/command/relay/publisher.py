"""Publishing events behind a fence.

Invariant: a publish either puts all its events on the stream, in order, right behind the position the publisher named,
or none of them (JetStream atomic batch publish, NATS ADR-50).
"""

from collections.abc import Collection, Sequence
from uuid import uuid4

from services.command.relay.outbox import UnpublishedEvent
from shared.contracts.ids import RoomKey
from shared.contracts.subjects import (
    HEADER_EVENT_ID,
    HEADER_EVENT_TYPE,
    HEADER_STREAM_SEQ,
    HEADER_TRACEPARENT,
    room_subject,
)
from shared.messaging.broker import (
    BROKER_ERRORS,
    Broker,
    BrokerUnavailableError,
    JetStreamError,
    number_in,
    object_in,
)
from shared.messaging.client import Outgoing, header_block

MOST_EVENTS = 1000
"""The most messages the server takes in one atomic batch."""

_SECONDS = 2.5
_NOT_TAKEN = frozenset({10023, 10028, 10047, 10176})
"""JetStream's codes for a server or an account whose disk or memory is full, and for a batch of which it lacks a part:
they say nothing of where the stream stands."""


class FencedOffError(Exception):
    """The stream did not stand where the publisher thought, or refused for another reason: reconcile."""


async def publish(
    broker: Broker,
    events: Sequence[UnpublishedEvent],
    expected_position: int,
    new_rooms: Collection[RoomKey] = (),
) -> int:
    """Publishes the events behind ``expected_position``; the position of the last one.

    ``new_rooms`` are rooms of which the stream must hold nothing yet. Raises ``FencedOffError`` when the stream
    refused, ``JetStreamError`` when NATS could not write, ``BrokerUnavailableError`` when the outcome is
    unknown.
    """
    batch_id = uuid4().hex if len(events) > 1 else None
    messages = [
        Outgoing(
            room_subject(*event.room),
            _headers(
                event,
                batch_id,
                number,
                len(events),
                expected_position,
                is_new=event.stream_seq == 1 and event.room in new_rooms,
            ),
            event.envelope,
        )
        for number, event in enumerate(events, start=1)
    ]
    try:
        answer = await broker.client.request_all(messages, _SECONDS)
    except BROKER_ERRORS as error:
        raise BrokerUnavailableError(f"publishing: {type(error).__name__}") from error
    acknowledged = object_in(answer)
    if error := acknowledged.get("error"):
        if (code := error.get("err_code")) in _NOT_TAKEN:
            raise JetStreamError(code, str(error.get("description")))
        raise FencedOffError(f"{error.get('description')} ({code})")
    if acknowledged.get("duplicate"):
        raise FencedOffError("the event is on the stream already")
    return number_in(acknowledged, "seq")


def _headers(
    event: UnpublishedEvent, batch_id: str | None, number: int, count: int, expected_position: int, *, is_new: bool
) -> bytes:
    headers = {
        HEADER_EVENT_ID: event.event_id,
        HEADER_EVENT_TYPE: event.event_type,
        HEADER_STREAM_SEQ: str(event.stream_seq),
    }
    if event.traceparent is not None:
        headers[HEADER_TRACEPARENT] = event.traceparent
    if batch_id is not None:
        headers["Nats-Batch-Id"] = batch_id
        headers["Nats-Batch-Sequence"] = str(number)
        if number == count:
            headers["Nats-Batch-Commit"] = "1"
    if number == 1:
        headers["Nats-Expected-Last-Sequence"] = str(expected_position)
    if is_new:
        headers["Nats-Expected-Last-Subject-Sequence"] = "0"
    return header_block(headers)
