"""Reading stored messages straight from the stream (JetStream direct get, NATS ADR-31), without a consumer.

Invariant: an answer is complete or it is a ``BrokerUnavailableError``; a part is never passed off as the whole.
"""

import asyncio
import json
from typing import Any, NamedTuple

from nats.aio.msg import Msg

from shared.contracts.subjects import STREAM
from shared.messaging.broker import BROKER_ERRORS, Broker, BrokerUnavailableError

_SUBJECT = f"$JS.API.DIRECT.GET.{STREAM}"
MOST_SUBJECTS = 1000
"""The most subjects one ``last_by_subjects`` call may name; the server's limit is 1024."""


class StoredMessage(NamedTuple):
    """One message of the stream; ``position`` is its sequence number in the stream."""

    position: int
    subject: str
    headers: dict[str, str]
    data: bytes


async def next_by_subject(
    broker: Broker, subject: str, start: int, batch: int, *, seconds: float = 2.0
) -> list[StoredMessage]:
    """Up to ``batch`` messages of the subject (wildcards allowed) at stream position ``start`` or later, in order."""
    return await _collect(broker, {"seq": max(start, 1), "next_by_subj": subject, "batch": batch}, seconds)


async def last_by_subjects(broker: Broker, subjects: list[str], *, seconds: float = 5.0) -> list[StoredMessage]:
    """The last message of each subject that has one. At most ``MOST_SUBJECTS`` subjects, no wildcards."""
    return await _collect(broker, {"multi_last": subjects, "batch": len(subjects)}, seconds)


async def _collect(broker: Broker, request: dict[str, Any], seconds: float) -> list[StoredMessage]:
    client = broker.client
    messages: list[StoredMessage] = []
    done: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def receive(message: Msg) -> None:
        headers = message.headers or {}
        status = headers.get("Status")
        if status is None:
            position = int(headers["Nats-Sequence"])
            messages.append(StoredMessage(position, headers["Nats-Subject"], headers, message.data))
        elif not done.done():
            done.set_result(status)

    try:
        inbox = client.new_inbox()
        subscription = await broker.subscribe(inbox, receive)
        try:
            await client.publish(_SUBJECT, json.dumps(request).encode(), reply=inbox)
            status = await asyncio.wait_for(done, seconds)
        finally:
            await subscription.unsubscribe()
    except BROKER_ERRORS as error:
        raise BrokerUnavailableError(f"no answer from the stream: {type(error).__name__}") from error
    if status not in ("204", "404"):  # end of batch, nothing found
        raise BrokerUnavailableError(f"the stream answered {status}")
    return messages
