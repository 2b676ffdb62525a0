"""Reading stored messages straight from the stream (JetStream direct get, NATS ADR-31), without a consumer.

Invariant: an answer is complete or it is a ``BrokerUnavailableError``; a part is never passed off as the whole, nor
what somebody else has asked for as what was asked for here.

Any replica of the stream may answer, also one that is behind. Whoever must not mistake "not here yet" for "not there"
says how far the one that answers has to be, or asks the leader.

Whoever has the service's key can have answers sent to its inboxes, too, of which each serves for one request and cannot
be guessed; and once the first message of an answer has shown it, each has to follow on the one before
(docs/decisions/0038-whose-event-it-is.md).
"""

import asyncio
import json
from base64 import b64decode
from collections.abc import Callable
from typing import Any, NamedTuple

from shared.contracts.subjects import STREAM, matches
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


class MisplacedAnswerError(BrokerUnavailableError):
    """Among the messages of an answer was one that does not follow on what was asked and on the one before."""


class _Answer:
    """The messages of one answer as they come; ``end`` is set with status and headers of the message that ends it."""

    def __init__(self, is_asked: Callable[[str], bool], start: int = 1) -> None:
        self.messages: list[StoredMessage] = []
        self.end: asyncio.Future[tuple[str, dict[str, str]]] = asyncio.get_running_loop().create_future()
        self._is_asked = is_asked
        self._start = start
        self._last = "0"

    def receive(self, _subject: str, _reply: str, raw: bytes, data: bytes) -> None:
        if self.end.done():
            return
        status, _ = parse_status(raw)
        headers = parse_headers(raw)
        # The server says of each message, and of the end, which was the message before.
        follows = headers.get("Nats-Last-Sequence", "0") == self._last
        if status and follows:
            self.end.set_result((status, headers))
        elif not status and follows and self._is_next(headers):
            self._last = headers["Nats-Sequence"]
            self.messages.append(StoredMessage(int(self._last), headers["Nats-Subject"], headers, data))
        else:
            self.end.set_exception(MisplacedAnswerError("the answer to something else came"))

    def _is_next(self, headers: dict[str, str]) -> bool:
        position = headers.get("Nats-Sequence", "")
        return (
            position.isdecimal()
            and int(position) >= max(self._start, int(self._last) + 1)
            and self._is_asked(headers.get("Nats-Subject", ""))
        )


async def next_by_subject(
    broker: Broker, subject: str, start: int, batch: int, *, most_bytes: int | None = None, seconds: float = 2.0
) -> list[StoredMessage]:
    """Up to ``batch`` messages of the subject (wildcards allowed) at stream position ``start`` or later, in order.

    No further ones once ``most_bytes`` are reached, but at least one if there is one.
    """
    start = max(start, 1)
    request: dict[str, Any] = {"seq": start, "next_by_subj": subject, "batch": batch}
    if most_bytes is not None:
        request["max_bytes"] = most_bytes
    messages, _ = await _collect(broker, request, _Answer(lambda found: matches(subject, found), start), seconds)
    return messages


async def last_by_subjects(broker: Broker, subjects: list[str], *, seconds: float = 5.0) -> list[StoredMessage]:
    """The last message of each subject that has one. At most ``MOST_SUBJECTS`` subjects, no wildcards."""
    messages, _ = await _collect_last(broker, subjects, seconds)
    return messages


async def last_by_subjects_up_to(
    broker: Broker, subjects: list[str], position: int, *, seconds: float = 5.0
) -> list[StoredMessage]:
    """The same of a replica that has come to ``position`` at least."""
    messages, headers = await _collect_last(broker, subjects, seconds)
    if not messages:
        # A replica that finds nothing does not say how far it has come.
        found = await asyncio.gather(*(_ask_leader(broker, {"last_by_subj": s}, seconds) for s in subjects))
        return [message for message in found if message is not None]
    if int(headers.get("Nats-UpTo-Sequence", 0)) < position:
        raise BrokerUnavailableError("the replica that answered is behind")
    return messages


async def next_by_leader(broker: Broker, subject: str, start: int, *, seconds: float = 5.0) -> StoredMessage | None:
    """The first message of the subject at ``start`` or later, by the word of whoever knows whether there is one."""
    return await _ask_leader(broker, {"seq": max(start, 1), "next_by_subj": subject}, seconds)


async def _ask_leader(broker: Broker, request: dict[str, Any], seconds: float) -> StoredMessage | None:
    try:
        answer = await broker.jetstream(f"STREAM.MSG.GET.{STREAM}", request, seconds=seconds)
    except JetStreamError as error:
        if error.code == _NO_MESSAGE:
            return None
        raise
    message: dict[str, Any] = answer["message"]
    headers = parse_headers(b64decode(message.get("hdrs", "")))
    return StoredMessage(int(message["seq"]), message["subject"], headers, b64decode(message.get("data", "")))


async def _collect_last(
    broker: Broker, subjects: list[str], seconds: float
) -> tuple[list[StoredMessage], dict[str, str]]:
    request = {"multi_last": subjects, "batch": len(subjects)}
    return await _collect(broker, request, _Answer(set(subjects).__contains__), seconds)


async def _collect(
    broker: Broker, request: dict[str, Any], answer: _Answer, seconds: float
) -> tuple[list[StoredMessage], dict[str, str]]:
    """The messages of an answer, and the headers of the status that ends it."""
    client = broker.client
    try:
        inbox = client.new_inbox()
        subscription = await broker.listen(inbox, answer.receive)
        try:
            await client.publish(_SUBJECT, json.dumps(request).encode(), reply=inbox)
            async with asyncio.timeout(seconds):
                status, end = await answer.end
        finally:
            await subscription.unsubscribe()
    except BROKER_ERRORS as error:
        raise BrokerUnavailableError(f"no answer from the stream: {type(error).__name__}") from error
    if status not in ("204", "404"):  # end of batch, nothing found
        raise BrokerUnavailableError(f"the stream answered {status}")
    return answer.messages, end
