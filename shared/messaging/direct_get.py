"""Reading stored messages straight from the stream (JetStream direct get, NATS ADR-31), without a consumer.

Invariant: an answer is complete or it is a ``BrokerUnavailableError``; a part is never passed off as the whole, nor
what somebody else has asked for as what was asked for here.

The server ends an answer that has come to so many bytes, 64 MiB if it is not told, and says how many messages it has
left out. What is asked for is bounded far below that. But a single message comes whatever its size, and what is on its
way to a connection beyond some bytes costs the connection: so one answer is asked for at a time, and who asks meanwhile
waits, within the time for the answer.

Any replica of the stream may answer, also one that is behind. Whoever must not mistake "not here yet" for "not there"
says how far the one that answers has to be, or asks the leader.

Whoever has the service's key can have answers sent to its inboxes, too, of which each serves for one request and cannot
be guessed; and once the first message of an answer has shown it, each has to follow on the one before
(docs/decisions/0038-whose-event-it-is.md).
"""

import asyncio
import json
from base64 import b64decode
from collections.abc import Awaitable, Callable
from typing import Any, Generic, NamedTuple, TypeVar

from shared.contracts.subjects import CUT_OFF, STREAM, matches
from shared.messaging.broker import BROKER_ERRORS, Broker, BrokerUnavailableError, JetStreamError, number_in
from shared.messaging.client import parse_headers, parse_status

_SUBJECT = f"$JS.API.DIRECT.GET.{STREAM}"
_NO_MESSAGE = 10037
_SUBJECT_HEADER = "Nats-Subject"
_POSITION_HEADER = "Nats-Sequence"
_APPENDED = f"Nats-Stream: {STREAM}\r\n\r\n".encode()
_END_OF_BATCH, _NOTHING_FOUND = "204", "404"
_NOT_LOADED = "Message Not Found"
"""Where the last messages were asked for: there is one, and it could not be read."""
_MOST_DIGITS = 20
"""Of a position, which is 64 bits wide."""
_MOST_BYTES = 4 * 1024 * 1024
_MOST_LAST_BYTES = 1024 * 1024
"""Of one answer with the last messages of many subjects: what comes live waits behind it on the same connection."""
_LEADER_ASKED_AT_ONCE = 16
MOST_SUBJECTS = 1000
"""The most subjects one ``last_by_subjects`` call may name; the server's limit is 1024."""


T = TypeVar("T")

GoOn = Callable[[], Awaitable[bool]]
"""Awaited between the questions of one search: whether it has time for more."""


async def to_the_end() -> bool:
    """For a search that takes the time it takes."""
    return True


class StoredMessage(NamedTuple):
    """One message of the stream; ``position`` is its sequence number in the stream."""

    position: int
    subject: str
    headers: dict[str, str]
    data: bytes


class LastMessages(NamedTuple, Generic[T]):
    """``found`` is one of each subject that has a message. ``up_to`` is how far the stream had come, 0 where it holds
    nothing at all of the subjects: then it does not say. ``left`` are the subjects that were not come to."""

    found: list[T]
    up_to: int
    left: list[str]


class MisplacedAnswerError(BrokerUnavailableError):
    """Among the messages of an answer was one that does not follow on what was asked and on the one before."""


class _End(NamedTuple):
    """The message that ends an answer."""

    status: str
    description: str
    headers: dict[str, str]

    @property
    def left_out(self) -> bool:
        """Whether there is more than the answer holds."""
        return number_in(self.headers, "Nats-Num-Pending", 0) > 0

    @property
    def up_to(self) -> int:
        return number_in(self.headers, "Nats-UpTo-Sequence", 0)


class _Answer:
    """The messages of one answer as they come; ``inbox`` is where it was asked for."""

    inbox = ""

    def __init__(self, is_asked: Callable[[str], bool], start: int = 1) -> None:
        self.messages: list[StoredMessage] = []
        self.end: asyncio.Future[_End] = asyncio.get_running_loop().create_future()
        self._is_asked = is_asked
        self._start = start
        self._last = "0"

    def receive(self, subject: str, _reply: str, raw: bytes, data: bytes) -> None:
        if self.end.done():
            return
        headers = parse_headers(raw)
        # The server says of a stored message where it stands, behind the headers that were published with it, and never
        # of an end, nor where nobody answers: those headers may look like one.
        status, description = ("", "") if _POSITION_HEADER in headers else parse_status(raw)
        # The server says of each message, and of the end, which was the message before.
        follows = headers.get("Nats-Last-Sequence", "0") == self._last
        if subject != self.inbox:  # as no server sends it here, unless it was read wrongly
            self._refuse()
        elif status and (follows or status != _END_OF_BATCH):
            self.end.set_result(_End(status, description, headers))
        elif not status and follows and self._is_next(headers):
            self._last = headers[_POSITION_HEADER]
            self.messages.append(StoredMessage(int(self._last), headers[_SUBJECT_HEADER], headers, data))
        else:
            self._refuse()

    def _refuse(self) -> None:
        self.end.set_exception(MisplacedAnswerError("the answer to something else came"))

    def _is_next(self, headers: dict[str, str]) -> bool:
        position = headers.get(_POSITION_HEADER, "")
        return (
            position.isdecimal()
            and len(position) <= _MOST_DIGITS
            and int(position) >= max(self._start, int(self._last) + 1)
            and self._is_asked(headers.get(_SUBJECT_HEADER, ""))
        )


async def next_by_subject(
    broker: Broker, subject: str, start: int, batch: int, *, most_bytes: int = _MOST_BYTES, seconds: float = 2.0
) -> list[StoredMessage]:
    """Up to ``batch`` messages of the subject (wildcards allowed) at stream position ``start`` or later, in order.

    No further ones once ``most_bytes`` are reached, but at least one if there is one.
    """
    start = max(start, 1)
    request = {"seq": start, "next_by_subj": subject, "batch": batch, "max_bytes": most_bytes}
    messages, _ = await _collect(broker, request, _Answer(lambda found: matches(subject, found), start), seconds)
    return messages


class Following(NamedTuple):
    """The first message, and the ``number`` of all of the subject from there on, itself included."""

    first: StoredMessage
    number: int


async def following(broker: Broker, subject: str, start: int, *, seconds: float = 2.0) -> Following | None:
    """What there is of the subject (wildcards allowed) at stream position ``start`` or later, None if nothing."""
    messages = await next_by_subject(broker, subject, start, 1, seconds=seconds)
    return Following(messages[0], 1 + number_in(messages[0].headers, "Nats-Num-Pending")) if messages else None


async def last_by_subjects(
    broker: Broker,
    subjects: list[str],
    read: Callable[[StoredMessage], T],
    *,
    start: int = 1,
    seconds: float = 5.0,
    go_on: GoOn = to_the_end,
) -> LastMessages[T]:
    """What ``read`` makes of the last message of each subject that has one at stream position ``start`` or later.

    At most ``MOST_SUBJECTS`` subjects, no wildcards. It takes as many questions as the messages have megabytes, and
    ``seconds`` are for each; no more of the messages are held than one answer.
    """
    left = dict.fromkeys(subjects)
    found: list[T] = []
    up_to = 0
    while True:
        request = {"multi_last": list(left), "batch": len(left), "seq": start, "max_bytes": _MOST_LAST_BYTES}
        messages, end = await _collect(broker, request, _Answer(left.__contains__, start), seconds)
        if end.up_to < up_to or end.description == _NOT_LOADED:
            raise BrokerUnavailableError("a replica that is behind, or a message gone while it was read")
        # What was written since the first answer may be missing, and nothing else.
        up_to = up_to or end.up_to
        found += map(read, messages)
        if not end.left_out:
            return LastMessages(found, up_to, [])
        if not messages:
            raise BrokerUnavailableError("the stream answered with nothing, and that there is more")
        for message in messages:
            del left[message.subject]
        if not await go_on():
            return LastMessages(found, up_to, list(left))


async def last_up_to(
    broker: Broker, subject: str, position: int, *, start: int = 1, seconds: float = 2.0
) -> StoredMessage | None:
    """The last message of the subject at stream position ``position`` or before it, and at ``start`` or later."""
    request = {"multi_last": [subject], "batch": 1, "seq": start, "up_to_seq": position}
    messages, end = await _collect(broker, request, _Answer(subject.__eq__, start), seconds)
    if end.description == _NOT_LOADED or any(message.position > position for message in messages):
        raise BrokerUnavailableError("a message gone while it was read, or one that was not asked for")
    return messages[0] if messages else None


async def last_by_subjects_up_to(
    broker: Broker,
    subjects: list[str],
    read: Callable[[StoredMessage], T],
    position: int,
    *,
    seconds: float = 5.0,
    go_on: GoOn = to_the_end,
) -> LastMessages[T]:
    """The same of a replica that has come to ``position`` at least."""
    last = await last_by_subjects(broker, subjects, read, seconds=seconds, go_on=go_on)
    if last.up_to >= position:
        return last
    if last.found:
        raise BrokerUnavailableError("the replica that answered is behind")
    # A replica that finds nothing does not say how far it has come.
    found: list[T] = []
    for begin in range(0, len(subjects), _LEADER_ASKED_AT_ONCE):
        if begin and not await go_on():
            return LastMessages(found, position, subjects[begin:])
        some = subjects[begin : begin + _LEADER_ASKED_AT_ONCE]
        asked = ({"last_by_subj": subject} for subject in some)
        messages = await asyncio.gather(*(_ask_leader(broker, request, seconds) for request in asked))
        found += [read(message) for message in messages if message is not None]
    return LastMessages(found, position, [])


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
    try:
        message: dict[str, Any] = answer["message"]
        raw, data = (b64decode(message.get(part, "")) for part in ("hdrs", "data"))
        return StoredMessage(number_in(message, "seq"), str(message["subject"]), parse_headers(_given(raw)), data)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise BrokerUnavailableError("the stream's leader answered with what is no message") from error


def _given(headers: bytes) -> bytes:
    """Headers as they were published, as direct get gives them: with others in place of their last two bytes, whatever
    those are, so that a message is the same by either road."""
    return headers[:CUT_OFF] + _APPENDED


async def _collect(
    broker: Broker, request: dict[str, Any], answer: _Answer, seconds: float
) -> tuple[list[StoredMessage], _End]:
    """The messages of an answer, and what ends it."""
    client = broker.client
    try:
        async with asyncio.timeout(seconds), broker.answering:
            inbox = answer.inbox = client.new_inbox()
            subscription = await broker.listen(inbox, answer.receive)
            try:
                with client.failing_with_it(inbox, answer.end):
                    await client.publish(_SUBJECT, json.dumps(request).encode(), reply=inbox)
                    end = await answer.end
            finally:
                await subscription.unsubscribe()
    except BROKER_ERRORS as error:
        raise BrokerUnavailableError(f"no answer from the stream: {type(error).__name__}") from error
    if end.status != _END_OF_BATCH and (end.status != _NOTHING_FOUND or answer.messages):
        raise BrokerUnavailableError(f"the stream answered {end.status} {end.description}")
    return answer.messages, end
