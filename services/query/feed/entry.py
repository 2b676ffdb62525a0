"""One event of a room as history gives it, wherever it was read."""

from collections.abc import Iterable
from typing import NamedTuple

from services.query.feed.cursor import Verdict, judge


class Entry(NamedTuple):
    """``position`` is where the stream holds the event: a hint, 0 when it was not read there."""

    stream_seq: int
    position: int
    envelope: bytes


def contiguous(entries: Iterable[Entry], after: int) -> list[Entry]:
    """The entries that follow ``after`` one by one, repeated ones dropped, up to the first hole."""
    taken: list[Entry] = []
    for entry in entries:
        verdict = judge(after, entry.stream_seq)
        if verdict is Verdict.NOT_YET:
            break
        if verdict is Verdict.NEXT:
            taken.append(entry)
            after = entry.stream_seq
    return taken
