"""The newest frames of one room, shared by everybody who watches it.

Invariant: the ring holds the frames of ``first`` to ``last`` without a hole, within its bounds; what left it can be had
from history. It never decides what a client sees: it either has what follows a cursor, or says that it has not.

A frame that is larger than all of the bounds passes through: it is there for those who are told of it.
"""

from services.query.feed.cursor import Verdict, judge
from services.query.feed.frame import chunk

_COMPACT_AT = 512


class Ring:
    """At most ``most_events`` frames and ``most_bytes`` bytes; until ``settle`` is called, always the newest one.

    ``last`` is the position before the first frame to come; an empty ring has ``first == last + 1``.
    """

    __slots__ = (
        "_bytes", "_chunk", "_chunk_key", "_frames", "_is_settled", "_most_bytes", "_most_events", "_start", "last",
    )  # fmt: skip

    def __init__(self, last: int, *, most_events: int, most_bytes: int) -> None:
        self.last = last
        self._most_events = most_events
        self._most_bytes = most_bytes
        self._frames: list[bytes] = []
        self._start = 0  # index of the oldest frame: dropping one moves this, not the list
        self._bytes = 0
        self._is_settled = True
        self._chunk_key: tuple[int, int] = (-1, -1)
        self._chunk: tuple[bytes, int] = (b"", -1)

    def __len__(self) -> int:
        return len(self._frames) - self._start

    @property
    def first(self) -> int:
        """The position of the oldest frame."""
        return self.last + 1 - len(self)

    @property
    def size(self) -> int:
        """Bytes held: of frames, and of the chunk that was made of them last."""
        return self._bytes + len(self._chunk[0])

    def append(self, stream_seq: int, frame: bytes) -> bool:
        """Takes the frame if it is the next one; whether it did."""
        if judge(self.last, stream_seq) is not Verdict.NEXT:
            return False
        self._frames.append(frame)
        self._bytes += len(frame)
        self.last = stream_seq
        self._is_settled = False
        while len(self) > 1 and (len(self) > self._most_events or self._bytes > self._most_bytes):
            self._bytes -= len(self._frames[self._start])
            self._frames[self._start] = b""
            self._start += 1
        if self._start >= _COMPACT_AT and self._start * 2 >= len(self._frames):
            del self._frames[: self._start]
            self._start = 0
        return True

    def settle(self) -> None:
        """Whoever follows has been told: nothing beyond the bounds is kept for them any more."""
        self._is_settled = True
        if self._bytes > self._most_bytes:
            self.rebase(self.last)
        elif self.size > self._most_bytes:
            self._forget_chunk()

    def rebase(self, last: int) -> None:
        """Empties the ring and lets it go on after ``last``, which is not before where it was."""
        if last < self.last:
            raise ValueError(f"a ring at {self.last} cannot go back to {last}")
        self._frames.clear()
        self._start = 0
        self._bytes = 0
        self._forget_chunk()
        self.last = last

    def frame(self, stream_seq: int) -> bytes | None:
        """The frame of the event at this position, if it is held."""
        return self._frames[self._start + stream_seq - self.first] if self.first <= stream_seq <= self.last else None

    def covers(self, cursor: int) -> bool:
        """Whether everything after the cursor, as far as is known here, is in the ring."""
        return self.first - 1 <= cursor <= self.last

    def after(self, cursor: int, most_bytes: int) -> tuple[bytes, int]:
        """The frames that follow a covered cursor, as one chunk, and the position of the last of them.

        At least one frame and at most ``most_bytes`` beyond it; nothing only when the cursor is at ``last``.
        """
        # Live viewers stand at the same few cursors, so one chunk serves them all while they are told.
        key = (cursor, self.last)
        if key == self._chunk_key:
            return self._chunk
        begin = end = self._start + cursor + 1 - self.first
        size = 0
        while end < len(self._frames) and (end == begin or size + len(self._frames[end]) <= most_bytes):
            size += len(self._frames[end])
            end += 1
        made = (chunk(*self._frames[begin:end]), cursor + end - begin)
        if not self._is_settled or self._bytes + len(made[0]) <= self._most_bytes:
            self._chunk_key, self._chunk = key, made
        return made

    def _forget_chunk(self) -> None:
        self._chunk_key = (-1, -1)
        self._chunk = (b"", -1)
