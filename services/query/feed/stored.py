"""A room's history as the stream itself holds it, read by the room's subject without a consumer.

Invariant: a start position is a hint and nothing more. What does not begin right after the cursor is searched for over
the whole stream, and only then called absent. What is of another room is of no room here, wherever it was found, and an
answer with something else in it than was asked for is asked for again. A message that is no event, of which there may
be any number, is passed over, and never taken for the end of the room. Every method raises ``BrokerUnavailableError``,
also where more of those are in the way than one question passes over, but those that ask whether the stream is filled.
"""

from collections.abc import Awaitable, Callable
from typing import NamedTuple, TypeVar

from services.query.feed.entry import Entry, contiguous
from services.query.feed.filled import Filled
from services.query.feed.misplaced import Misplaced, fault_of
from services.query.metrics import HISTORY_READS
from shared.contracts.subjects import room_of, stream_seq_of
from shared.messaging.broker import Broker, BrokerUnavailableError
from shared.messaging.direct_get import (
    MOST_SUBJECTS,
    MisplacedAnswerError,
    StoredMessage,
    last_by_subjects,
    next_by_subject,
)
from shared.messaging.look_back import LookedBack, look_back

MOST_TAILS = MOST_SUBJECTS
_MOST_BYTES = 256 * 1024
"""Of one read; a single larger event is still read."""
_TRIES = 3
_MOST_PAGES = 16
"""Read in search of an event, of which all but the last hold none."""
_PASSED_AT_ONCE = 1000

T = TypeVar("T")

_misplaced = Misplaced()


class Absent(NamedTuple):
    """The stream does not hold the event. ``first_seq`` is the oldest of the room that it does hold, if any."""

    first_seq: int | None


class Tail(NamedTuple):
    """Where a room's last event stands: in the room, and in the stream."""

    subject: str
    stream_seq: int
    position: int


class Tails(NamedTuple):
    """``of`` holds them by subject; ``up_to`` is how far the stream had come, 0 if it holds nothing of the subjects.

    ``strays`` are the subjects of which the last message is no event, with its position: the last event of such a one
    is to be found by ``last_event``.
    """

    of: dict[str, Tail]
    up_to: int
    strays: dict[str, int]


class StraysInTheWayError(BrokerUnavailableError):
    """More stands in the way that is no event than one question passes over."""

    def __init__(self) -> None:
        super().__init__(self.__doc__)


class StoredFeed:
    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._filled = Filled(broker)

    async def filled(self) -> str | None:
        """Which stream it is, if the relay has filled it; None if it has not, and where nobody says, in some seconds.

        What a stream does not hold is gone, and not only to come, if it was the same filled one before it was asked,
        and still is.
        """
        return await self._filled.identity()

    async def is_still_filled(self, identity: str) -> bool:
        """Whether it is that one after all that was asked before this call, by a question that began after it."""
        return await self._filled.identity_since() == identity

    async def tails(self, subjects: list[str], behind: int = 0) -> Tails:
        """The last event of each subject that has one behind that position of the stream. At most ``MOST_TAILS``.

        Of each that has one at all, if the stream has not come so far: it is another than it was, or a replica lags.
        """
        tails = await self._tails(subjects, behind + 1)
        return tails if tails.up_to >= behind else await self._tails(subjects, 1)

    async def _tails(self, subjects: list[str], start: int) -> Tails:
        last, up_to, _ = await _ask(lambda: last_by_subjects(self._broker, subjects, _last, start=start))
        of = {message.subject: message for message in last if message.stream_seq}
        return Tails(of, up_to, {message.subject: message.position for message in last if not message.stream_seq})

    async def last_event(self, subject: str, stray: int, behind: int = 0) -> LookedBack[Tail]:
        """The last event behind one position and before another, which holds a message that is none.

        It may come no further than some way towards that one: then it is to be asked for from there again.
        """
        return await _ask(lambda: look_back(self._broker, subject, stray, _tail, behind=behind, most_pages=_MOST_PAGES))

    async def following(self, subject: str, after: int, start: int, most_events: int) -> list[Entry]:
        """The events right after the position as found from ``start`` on; empty if they are not found there."""
        return contiguous(await self._read(subject, start, most_events), after)

    async def search(self, subject: str, after: int, most_events: int) -> list[Entry] | Absent:
        """The events right after the position, wherever the stream holds them."""
        try:
            first = await self._read(subject, 1, most_events)
        except StraysInTheWayError:
            return await self._search_behind(subject, after, most_events)
        if not first:
            return Absent(None)
        if taken := contiguous(first, after):
            return taken
        tail = await self._tail_beyond(subject, after)
        if first[0].stream_seq > after + 1 or tail is None:
            return Absent(first[0].stream_seq)
        start = await self._locate(subject, after + 1, first[-1].position + 1, tail.position)
        if taken := await self.following(subject, after, start, most_events):
            return taken
        return await self._scan(subject, after, most_events)

    async def _search_behind(self, subject: str, after: int, most_events: int) -> list[Entry]:
        """The same where the room's beginning is not to be had: then nothing is known to be absent."""
        tail = await self._tail_beyond(subject, after)
        start = await self._locate(subject, after + 1, 1, tail.position) if tail is not None else 1
        if taken := await self.following(subject, after, start, most_events):
            return taken
        raise StraysInTheWayError

    async def _tail_beyond(self, subject: str, after: int) -> Tail | None:
        """The last event, or at least one of the last, if it comes after that one."""
        tails = await self.tails([subject])
        tail, stray = tails.of.get(subject), tails.strays.get(subject)
        is_last = True
        if stray is not None:
            tail, up_to = await self.last_event(subject, stray)
            is_last = up_to >= stray
        if tail is not None and tail.stream_seq > after:
            return tail
        if not is_last:
            raise StraysInTheWayError
        return None

    async def _locate(self, subject: str, stream_seq: int, low: int, high: int) -> int:
        """The stream position of ``stream_seq`` between two positions, if the room is in order there.

        What is no event does not say where in the room it stands. It is taken for what comes before: asked for most is
        the first event behind many such.
        """
        while low < high:
            middle = (low + high) // 2
            found = await self._messages(subject, middle, 1)
            if found and not (_is_event(found[0]) and stream_seq_of(found[0].headers) >= stream_seq):
                low = found[0].position + 1
            else:
                high = middle
        return low

    async def _scan(self, subject: str, after: int, most_events: int) -> list[Entry] | Absent:
        """From the beginning, batch by batch: what a stream that repeats itself after a recovery may need."""
        start, first_seq = 1, None
        while batch := await self._read(subject, start, most_events):
            first_seq = first_seq or batch[0].stream_seq
            if taken := contiguous((entry for entry in batch if entry.stream_seq > after), after):
                return taken
            start = batch[-1].position + 1
        return Absent(first_seq)

    async def _read(self, subject: str, start: int, most_events: int) -> list[Entry]:
        """The next events at the position or later, at least one if there is one."""
        most = most_events
        for _ in range(_MOST_PAGES):
            messages = await self._messages(subject, start, most)
            entries = [_entry(message) for message in messages if _is_event(message)]
            if entries or not messages:
                return entries[:most_events]
            start, most = messages[-1].position + 1, _PASSED_AT_ONCE
        raise StraysInTheWayError

    async def _messages(self, subject: str, start: int, most: int) -> list[StoredMessage]:
        HISTORY_READS.labels("stream").inc()
        return await _ask(lambda: next_by_subject(self._broker, subject, start, most, most_bytes=_MOST_BYTES))


async def _ask(question: Callable[[], Awaitable[T]]) -> T:
    tries = 0
    while True:
        try:
            return await question()
        except MisplacedAnswerError:
            _misplaced.report("answer_to_something_else")
            if (tries := tries + 1) == _TRIES:
                raise


def _is_event(message: StoredMessage) -> bool:
    """Nothing but the relay writes to the stream; what carries no position of ours, stands with another room's, or
    is more than a line, is none of ours."""
    if not stream_seq_of(message.headers) or (room := room_of(message.subject)) is None:
        return False
    if (fault := fault_of(message.data, room)) is not None:
        _misplaced.report(f"stored_event_{fault}", **room._asdict())
        return False
    return True


def _last(message: StoredMessage) -> Tail:
    """With 0 for a number where it is no event."""
    return Tail(message.subject, stream_seq_of(message.headers) if _is_event(message) else 0, message.position)


def _tail(message: StoredMessage) -> Tail | None:
    tail = _last(message)
    return tail if tail.stream_seq else None


def _entry(message: StoredMessage) -> Entry:
    return Entry(stream_seq_of(message.headers), message.position, message.data)
