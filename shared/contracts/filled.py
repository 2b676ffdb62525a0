"""What the relay tells readers, who may not ask the stream: which one it is that is filled.

Invariant: the relay asks the stream, tells, and asks again only then. So the next message of the same teller rests on a
question that began after the one before was sent.
"""

import re
from typing import NamedTuple

_FORM = re.compile(rb"([0-9TZ:.+-]{1,40}/[0-9]{1,18}) ([0-9a-f]{16})")
TELLER_BYTES = 8
"""Of which the hexadecimal digits are the name of a teller."""


class Told(NamedTuple):
    """``identity`` is the stream's, as one text; ``teller`` the relay that says so."""

    identity: str
    teller: str


def telling(told: Told) -> bytes:
    """The message's payload."""
    return f"{told.identity} {told.teller}".encode()


def told_in(payload: bytes) -> Told | None:
    """What the payload tells; None if it is not of exactly that form."""
    found = _FORM.fullmatch(payload)
    return None if found is None else Told(found[1].decode(), found[2].decode())
