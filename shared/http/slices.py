"""How much of what has come the parser is given at a time: it makes requests of all of it."""

from typing import Final

_SLICE_BYTES: Final = 4096
"""Read at a time, and no further than a head's end if another one ends behind it: the parser makes requests of all it
is given, and one of 26 bytes is 2 KB of objects."""
_LEAST_SLICE_BYTES: Final = 64
"""Three of the shortest requests. A body may be nothing but what looks like ends of heads."""
_END_OF_HEAD: Final = b"\r\n\r\n"


def end_of_slice(data: bytes, at: int) -> int:
    """Where the one that begins ``at`` ends; it may be behind the end of the data."""
    end = at + _SLICE_BYTES
    head = data.find(_END_OF_HEAD, at + _LEAST_SLICE_BYTES - len(_END_OF_HEAD), end)
    if head < 0 or data.find(_END_OF_HEAD, head + len(_END_OF_HEAD), end) < 0:
        return end
    return head + len(_END_OF_HEAD)
