"""Answers that clients have yet to take: of all connections of a process together, in bytes.

Invariant: what is not taken is bounded. Beyond the limit, whoever has kept the process waiting longest loses the
connection, if that has been long enough; if it has not, nothing more is to be read for anybody.

Only what a transport had to keep beyond its 64 KiB is counted, so that an answer that is taken at once costs nothing.
"""

import time
from typing import Final, NamedTuple, Protocol

from shared.metrics import BACKLOG_BYTES, BACKLOG_DROPS

PATIENCE_SECONDS: Final = 0.25
"""Longer, and who comes again before it is over keeps the backlog full, and everybody out."""


class Holder(Protocol):
    """Whoever has an answer that is not taken."""

    def drop(self) -> None:
        """Lets go of it, and of the client."""
        ...


class _Held(NamedTuple):
    size: int
    since: float


class Backlog:
    """``limit`` in bytes; none without one."""

    def __init__(self, limit: int | None = None) -> None:
        self._limit = limit
        self._held: dict[Holder, _Held] = {}
        self._bytes = 0

    def hold(self, holder: Holder, size: int) -> None:
        """So much of the holder's answer was not taken."""
        self.release(holder)
        self._held[holder] = _Held(size, time.monotonic())
        self._count(size)

    def release(self, holder: Holder) -> None:
        """It was taken, or nobody is there any more."""
        held = self._held.pop(holder, None)
        if held is not None:
            self._count(-held.size)

    def has_room(self) -> bool:
        """Whether more may be answered, once those have been dropped who are too slow for it."""
        if self._limit is None:
            return True
        while self._bytes >= self._limit:
            holder, held = next(iter(self._held.items()))  # it began first
            if time.monotonic() - held.since < PATIENCE_SECONDS:
                return False
            self.release(holder)
            BACKLOG_DROPS.inc()
            holder.drop()
        return True

    def _count(self, size: int) -> None:
        self._bytes += size
        BACKLOG_BYTES.set(self._bytes)
