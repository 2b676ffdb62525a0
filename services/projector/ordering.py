"""Which events of a room come next. Pure.

Invariant: a room's events are applied as 1, 2, 3, … whatever arrives, however often and in whatever order.
"""

from collections.abc import Iterable
from typing import NamedTuple

from services.projector.projections.base import Recorded


class Ordered(NamedTuple):
    """``ready`` follow on what is applied; ``beyond`` are behind a hole, by seq; ``repeated`` were not needed."""

    ready: list[Recorded]
    beyond: dict[int, Recorded]
    repeated: int


def put_in_order(applied_seq: int, arrived: Iterable[Recorded]) -> Ordered:
    """Sorts what arrived of a room that is applied up to ``applied_seq``."""
    ready: list[Recorded] = []
    beyond: dict[int, Recorded] = {}
    repeated = 0
    following = applied_seq + 1
    for recorded in arrived:
        seq = recorded.stream_seq
        if seq == following:
            ready.append(recorded)
            following += 1
        elif seq < following or seq in beyond:
            repeated += 1
        else:
            beyond[seq] = recorded
    while beyond and (recorded := beyond.pop(following, None)) is not None:
        ready.append(recorded)
        following += 1
    if beyond:
        stale = [seq for seq in beyond if seq < following]
        for seq in stale:
            del beyond[seq]
        repeated += len(stale)
    return Ordered(ready, beyond, repeated)


def fill(ordered: Ordered, applied_seq: int, stored: Iterable[Recorded]) -> Ordered:
    """The same with events from the event store added; an event that also came by the stream is kept as it came."""
    known = {recorded.stream_seq: recorded for recorded in stored} | ordered.beyond
    return put_in_order(applied_seq, [*ordered.ready, *(known[seq] for seq in sorted(known))])
