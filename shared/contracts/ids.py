"""The forms identifiers take on the wire.

Invariant: what passes here is safe as a subject token, a header value and a text key, so nothing behind the HTTP
boundary has to check again.
"""

import re
from typing import NamedTuple

RUN_PREFIX = "run"
STEP_PREFIX = "step"

_TOKEN = re.compile(r"[A-Za-z0-9_-]{1,128}", re.ASCII)
_UUID = re.compile(r"[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}", re.ASCII)
_PRINTABLE_ASCII = re.compile(r"[ -~]+", re.ASCII)

CORRELATION_ID_MAX = 128
"""Characters."""


class RoomKey(NamedTuple):
    """One room of one workspace: the unit of order."""

    workspace_id: str
    room_id: str


def is_token(value: str) -> bool:
    """Whether value is 1-128 of ``A-Z a-z 0-9 _ -``: a room, thread or workspace id."""
    return _TOKEN.fullmatch(value) is not None


def is_event_id(value: str) -> bool:
    """Whether value is a UUID in its canonical text form (RFC 9562, section 4)."""
    return _UUID.fullmatch(value) is not None


def is_correlation_id(value: str) -> bool:
    """Whether value is 1-128 printable characters without white space."""
    return 0 < len(value) <= CORRELATION_ID_MAX and value.isprintable() and " " not in value


def is_printable_ascii(value: str, longest: int) -> bool:
    """Whether value is 1 to ``longest`` printable ASCII characters, spaces included."""
    return len(value) <= longest and _PRINTABLE_ASCII.fullmatch(value) is not None
