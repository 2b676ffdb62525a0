"""Where a client stands in its room: how it says so, and how it may move.

Invariant: a cursor only ever advances by exactly one. An event that is not the next one is "not yet" or "already",
never "skip"; the single exception is a reset, which the client is told.
"""

import enum
import re
from typing import Final, Literal

MOST_SEQ: Final = 2**63 - 1
_PLAIN_NUMBER = re.compile(r"[0-9]{1,19}", re.ASCII)

Latest = Literal["latest"]
LATEST: Final = "latest"


class CursorError(ValueError):
    """What the client sent is no position."""


class Verdict(enum.Enum):
    """What an event is to a cursor."""

    NEXT = enum.auto()
    ALREADY = enum.auto()
    NOT_YET = enum.auto()


def judge(cursor: int, stream_seq: int) -> Verdict:
    """Whether the event at ``stream_seq`` is the one that ``cursor`` takes."""
    if stream_seq == cursor + 1:
        return Verdict.NEXT
    return Verdict.ALREADY if stream_seq <= cursor else Verdict.NOT_YET


def parse_seq(text: str) -> int:
    """A plain decimal number from 0 to 2^63 - 1. Raises ``CursorError``."""
    if _PLAIN_NUMBER.fullmatch(text) is None or (seq := int(text)) > MOST_SEQ:
        raise CursorError("expected a plain number from 0 to 9223372036854775807")
    return seq


def parse_start(last_event_id: str | None, from_seq: str | None) -> int | Latest:
    """Where a stream starts, exclusive. ``Last-Event-ID`` wins; an empty one is none, as browsers mean it.

    Neither is 0. Raises ``CursorError``, which names the one at fault.
    """
    if last_event_id:
        name, text = "Last-Event-ID", last_event_id
    elif from_seq is None:
        return 0
    elif from_seq == LATEST:
        return LATEST
    else:
        name, text = "from_seq", from_seq
    try:
        return parse_seq(text)
    except CursorError as error:
        raise CursorError(f"{name}: {error}") from None
