"""What clients make a process hold: answers they have yet to take, or bodies they have yet to send whole, in bytes.

Invariant: all of it together is bounded. Beyond the limit, whoever has kept the process waiting longest is dropped, if
that has been long enough; if it has not, nothing more is to be held for anybody.

Of answers only what a transport had to keep beyond its 64 KiB is counted, so that one that is taken at once costs
nothing.
"""

import time
from typing import Final, NamedTuple, Protocol

from prometheus_client import Counter, Gauge

from shared.metrics import BACKLOG_BYTES, BACKLOG_DROPS

PATIENCE_SECONDS: Final = 0.25
"""Longer, and who comes again before it is over keeps the backlog full, and everybody out."""


class Holder(Protocol):
    """Whoever has something on a client's behalf."""

    def drop(self) -> None:
        """Lets go of it, and of the client. It is released already."""
        ...


class _Held(NamedTuple):
    size: int
    since: float


class Backlog:
    """``limit`` in bytes; none without one. ``held`` and ``drops`` say how much it is, and who had to go."""

    def __init__(
        self, limit: int | None = None, *, held: Gauge = BACKLOG_BYTES, drops: Counter = BACKLOG_DROPS
    ) -> None:
        self._limit = limit
        self._gauge = held
        self._drops = drops
        self._held: dict[Holder, _Held] = {}
        self._bytes = 0

    def hold(self, holder: Holder, size: int) -> None:
        """So much it is now, since it was first held."""
        held = self._held.get(holder)
        if held is None:
            self._held[holder] = _Held(size, time.monotonic())
            self._count(size)
        else:
            self._held[holder] = _Held(size, held.since)
            self._count(size - held.size)

    def release(self, holder: Holder) -> None:
        """It is over, or nobody is there any more."""
        held = self._held.pop(holder, None)
        if held is not None:
            self._count(-held.size)

    def has_room(self) -> bool:
        """Whether more may be held, once those have been dropped who are too slow for it."""
        if self._limit is None:
            return True
        while self._bytes >= self._limit:
            holder, held = next(iter(self._held.items()))  # it began first
            if time.monotonic() - held.since < PATIENCE_SECONDS:
                return False
            self.release(holder)
            self._drops.inc()
            holder.drop()
        return True

    def _count(self, size: int) -> None:
        self._bytes += size
        self._gauge.set(self._bytes)
