"""Reading stored messages straight from the stream (JetStream direct get, NATS ADR-31), without a consumer.

Invariant: an answer is complete or it is a ``BrokerUnavailableError``; a part is never passed off as the whole.

Any replica of the stream may answer, also one that is behind. Whoever must not mistake "not here yet" for "not there"
says how far the one that answers has to be, or asks the leader.
"""

import asyncio
import json
from base64 import b64decode
from typing import Any, NamedTuple

from shared.contracts.subjects import STREAM
from shared.messaging.broker import BROKER_ERRORS, Broker, BrokerUnavailableError, JetStreamError
from shared.messaging.client import parse_headers, parse_status

_SUBJECT = f"$JS.API.DIRECT.GET.{STREAM}"
_NO_MESSAGE = 10037
MOST_SUBJECTS = 1000
"""The most subjects one ``last_by_subjects`` call may name; the server's limit is 1024."""


class StoredMessage(NamedTuple):
    """One message of the stream; ``position`` is its sequence number in the stream."""

    position: int
    subject: str
    headers: dict[str, str]
    data: bytes


async def next_by_subject(
    broker: Broker, subject: str, start: int, batch: int, *, most_bytes: int | None = None, seconds: float = 2.0
) -> list[StoredMessage]:
    """Up to ``batch`` messages of the subject (wildcards allowed) at stream position ``start`` or later, in order.

    No further ones once ``most_bytes`` are reached, but at least one if there is one.
    """
    request: dict[str, Any] = {"seq": max(start, 1), "next_by_subj": subject, "batch": batch}
    if most_bytes is not None:
        request["max_bytes"] = most_bytes
    messages, _ = await _collect(broker, request, seconds)
    return messages


async def last_by_subjects(broker: Broker, subjects: list[str], *, seconds: float = 5.0) -> list[StoredMessage]:
    """The last message of each subject that has one. At most ``MOST_SUBJECTS`` subjects, no wildcards."""
    messages, _ = await _collect(broker, {"multi_last": subjects, "batch": len(subjects)}, seconds)
    return messages


async def last_by_subjects_up_to(
    broker: Broker, subjects: list[str], position: int, *, seconds: float = 5.0
) -> list[StoredMessage]:
    """The same of a replica that has come to ``position`` at least."""
    messages, headers = await _collect(broker, {"multi_last": subjects, "batch": len(subjects)}, seconds)
    if not messages:
        # A replica that finds nothing does not say how far it has come.
        found = await asyncio.gather(*(_last_by_leader(broker, subject, seconds) for subject in subjects))
        return [message for message in found if message is not None]
    if int(headers.get("Nats-UpTo-Sequence", 0)) < position:
        raise BrokerUnavailableError("the replica that answered is behind")
    return messages


async def _last_by_leader(broker: Broker, subject: str, seconds: float) -> StoredMessage | None:
    try:
        answer = await broker.jetstream(f"STREAM.MSG.GET.{STREAM}", {"last_by_subj": subject}, seconds=seconds)
    except JetStreamError as error:
        if error.code == _NO_MESSAGE:
            return None
        raise
    message: dict[str, Any] = answer["message"]
    headers = parse_headers(b64decode(message.get("hdrs", "")))
    return StoredMessage(int(message["seq"]), message["subject"], headers, b64decode(message.get("data", "")))


async def _collect(
    broker: Broker, request: dict[str, Any], seconds: float
) -> tuple[list[StoredMessage], dict[str, str]]:
    """The messages of an answer, and the headers of the status that ends it."""
    client = broker.client
    messages: list[StoredMessage] = []
    done: asyncio.Future[tuple[str, dict[str, str]]] = asyncio.get_running_loop().create_future()

    def receive(_subject: str, _reply: str, raw: bytes, data: bytes) -> None:
        status, _ = parse_status(raw)
        headers = parse_headers(raw)
        if not status:
            messages.append(StoredMessage(int(headers["Nats-Sequence"]), headers["Nats-Subject"], headers, data))
        elif not done.done():
            done.set_result((status, headers))

    try:
        inbox = client.new_inbox()
        subscription = await broker.listen(inbox, receive)
        try:
            await client.publish(_SUBJECT, json.dumps(request).encode(), reply=inbox)
            async with asyncio.timeout(seconds):
                status, end = await done
        finally:
            await subscription.unsubscribe()
    except BROKER_ERRORS as error:
        raise BrokerUnavailableError(f"no answer from the stream: {type(error).__name__}") from error
    if status not in ("204", "404"):  # end of batch, nothing found
        raise BrokerUnavailableError(f"the stream answered {status}")
    return messages, end
