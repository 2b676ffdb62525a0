"""Parsing of event streams. Clients of one room are sent the same bytes, so what was parsed for one serves them all."""

import re
from functools import lru_cache
from typing import NamedTuple

_SEQ = re.compile(rb'"stream_seq":(\d+)')
_KEPT = 128


class StreamError(Exception):
    """The bytes are no stream of a room, or not in order."""


class Events(NamedTuple):
    """Positions ``first`` to ``last`` (0 and 0 for none), other frames and comments, and what is left over."""

    first: int
    last: int
    others: bytes
    rest: bytes


@lru_cache(_KEPT)
def join_chunks(received: bytes) -> tuple[bytes, bytes]:
    """The content of all whole chunks (RFC 9112), and what is left over."""
    parts: list[bytes] = []
    at = 0
    while (line := received.find(b"\r\n", at)) >= 0:
        size = int(received[at:line], 16)
        if size == 0:
            raise StreamError("the stream was ended")
        end = line + 2 + size
        if len(received) < end + 2:
            break
        parts.append(received[line + 2 : end])
        at = end + 2
    return (parts[0] if len(parts) == 1 else b"".join(parts)), received[at:]


@lru_cache(_KEPT)
def read_events(text: bytes) -> Events:
    """The events of all whole frames. The position is in the event itself; an id that is a number must agree."""
    *frames, rest = text.split(b"\n\n")
    first = last = 0
    others: list[bytes] = []
    for frame in frames:
        if not frame.startswith(b"id: "):
            if frame.startswith((b"event: reset\n", b"event: busy\n")):
                raise StreamError(f"the service said {frame!r}")
            others.append(frame + b"\n")
            continue
        mark, _, data = frame[4:].partition(b"\ndata: ")
        found = _SEQ.search(data)
        if found is None or (mark.isdigit() and mark != found[1]):
            raise StreamError(f"a frame that is none: {frame[:200]!r}")
        seq = int(found[1])
        if last and seq != last + 1:
            raise StreamError(f"event {seq} after {last}")
        first, last = first or seq, seq
    return Events(first, last, b"".join(others), rest)
