"""The last event of a subject, where the last message of it is none.

Who may have answers of JetStream's API sent to a room's subject writes there what is no event, and as much as he likes
(docs/decisions/0038-whose-event-it-is.md). Of a subject the stream gives the last message alone, whatever that is.

Invariant: how far the subject was looked through is said, and what was not is never passed off as holding nothing. The
work of one search is bounded; the next one goes on where it ended.
"""

from collections.abc import Callable
from typing import Generic, NamedTuple, TypeVar

from shared.messaging.broker import Broker, BrokerUnavailableError
from shared.messaging.direct_get import (
    GoOn,
    StoredMessage,
    last_by_subjects_up_to,
    last_up_to,
    next_by_subject,
    to_the_end,
)

_PAGE_MESSAGES = 1000
_MOST_BYTES = 256 * 1024
_MOST_PAGES = 16

T = TypeVar("T")


class LookedBack(NamedTuple, Generic[T]):
    """``last`` is the last event up to the position ``up_to``, None if there is none."""

    last: T | None
    up_to: int


class LastEvents(NamedTuple, Generic[T]):
    """``found`` is by subject; of those in ``unsure`` there may be a later one, or one at all. Those in ``left`` were
    not come to."""

    found: dict[str, T]
    unsure: set[str]
    left: set[str]


async def look_back(
    broker: Broker,
    subject: str,
    position: int,
    read: Callable[[StoredMessage], T | None],
    *,
    behind: int = 0,
    most_pages: int = _MOST_PAGES,
    most_bytes: int = _MOST_BYTES,
    answered: GoOn = to_the_end,
) -> LookedBack[T]:
    """What ``read`` makes of the last event between two positions, of which ``position`` holds a message that is none.

    ``read`` gives None for what is no event. All was looked through if ``up_to`` has come to ``position``. ``answered``
    is awaited after each answer; whatever it says, the search goes on.
    """
    last, up_to = await _stride_back(broker, subject, position, read, behind, answered)
    # On from there, as there may be events among what was passed over. The last page has to hold the message at
    # ``position``: a replica that does not have that one may lack others, too.
    for _ in range(most_pages):
        if up_to >= position:
            break
        page = await next_by_subject(broker, subject, up_to + 1, _PAGE_MESSAGES, most_bytes=most_bytes)
        if not page:
            raise BrokerUnavailableError("a replica that is behind, or a message gone while it was looked for")
        for event in map(read, page):
            last = event if event is not None else last
        up_to = page[-1].position
        await answered()
    return LookedBack(last, up_to)


async def _stride_back(
    broker: Broker,
    subject: str,
    position: int,
    read: Callable[[StoredMessage], T | None],
    behind: int,
    answered: GoOn,
) -> LookedBack[T]:
    """An event not far before the last one, in strides that double: by one question if it stands right before."""
    stride = 1
    while position - stride > behind:
        message = await last_up_to(broker, subject, position - stride, start=behind + 1)
        await answered()
        if message is None:
            break
        if (event := read(message)) is not None:
            return LookedBack(event, message.position)
        position, stride = message.position, stride * 2
    return LookedBack(None, behind)


async def last_events_up_to(
    broker: Broker,
    subjects: list[str],
    read: Callable[[StoredMessage], T | None],
    position: int,
    *,
    seconds: float = 5.0,
    most_pages: int = _MOST_PAGES,
    go_on: GoOn = to_the_end,
) -> LastEvents[T]:
    """What ``read`` makes of the last event of each subject, of a replica that has come to ``position`` at least.

    It ends where ``go_on`` says so, and has come to one subject at least.
    """
    events = LastEvents[T]({}, set(), set())
    strays: dict[str, int] = {}

    def sort(message: StoredMessage) -> None:
        if (event := read(message)) is not None:
            events.found[message.subject] = event
        else:
            strays[message.subject] = message.position

    last = await last_by_subjects_up_to(broker, subjects, sort, position, seconds=seconds, go_on=go_on)
    events.left.update(last.left)
    has_time = True
    for subject, stray in strays.items():
        if not has_time:
            events.left.add(subject)
            continue
        found, up_to = await look_back(broker, subject, stray, read, most_pages=most_pages, answered=go_on)
        if found is not None:
            events.found[subject] = found
        if up_to < stray:
            events.unsure.add(subject)
        has_time = await go_on()
    return events
