"""What clients make a process hold: answers they have yet to take, heads or bodies yet to be sent whole, in bytes.

Invariant: all of it together is bounded. Beyond the limit, whoever has kept the process waiting longest is dropped, if
that has been long enough; if it has not, nothing more is to be held for anybody.

Of answers only what a transport had to keep beyond its 64 KiB is counted, so that one that is taken at once costs
nothing. Bytes that many have yet to take, and that are there once for all of them, count once.
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


class _Shared:
    """A chunk, and who has yet to take it."""

    __slots__ = ("chunk", "holders")

    def __init__(self, chunk: bytes) -> None:
        self.chunk = chunk
        self.holders: set[Holder] = set()

    def drop(self) -> None:
        for holder in list(self.holders):
            holder.drop()


class Backlog:
    """``limit`` in bytes; none without one. ``held`` and ``drops`` say how much it is, and who had to go; several may
    have the same."""

    def __init__(
        self, limit: int | None = None, *, held: Gauge = BACKLOG_BYTES, drops: Counter = BACKLOG_DROPS
    ) -> None:
        self._limit = limit
        self._gauge = held
        self._drops = drops
        self._held: dict[Holder, _Held] = {}
        self._shared: dict[int, _Shared] = {}
        """By the identity of their chunks."""
        self._sharing: dict[Holder, _Shared] = {}
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

    def share(self, holder: Holder, chunk: bytes) -> None:
        """It holds this very object, of which there is one for all who do. Kept too long, it is dropped with them."""
        self.release(holder)
        shared = self._shared.get(id(chunk))
        if shared is None:
            shared = self._shared[id(chunk)] = _Shared(chunk)
            self.hold(shared, len(chunk))
        shared.holders.add(holder)
        self._sharing[holder] = shared

    def release(self, holder: Holder) -> None:
        """It is over, or nobody is there any more."""
        shared = self._sharing.pop(holder, None)
        if shared is None:
            self._forget(holder)
            return
        shared.holders.discard(holder)
        if not shared.holders:
            self._forget(shared)

    def has_room(self) -> bool:
        """Whether more may be held, once those have been dropped who are too slow for it."""
        if self._limit is None:
            return True
        while self._bytes >= self._limit:
            holder, held = next(iter(self._held.items()))  # it began first
            if time.monotonic() - held.since < PATIENCE_SECONDS:
                return False
            self._forget(holder)
            self._drops.inc(len(holder.holders) if isinstance(holder, _Shared) else 1)
            holder.drop()
        return True

    def _forget(self, holder: Holder) -> None:
        held = self._held.pop(holder, None)
        if held is not None:
            self._count(-held.size)
            if isinstance(holder, _Shared):
                del self._shared[id(holder.chunk)]

    def _count(self, size: int) -> None:
        self._bytes += size
        self._gauge.inc(size)
