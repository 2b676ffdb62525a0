"""How much of its time a task gives to one kind of work. Pure.

Invariant: over any longer while it is no more than the share, but for a piece of work that took very long.
"""

_LONGEST_PAUSE = 5.0
"""Seconds. What takes long enough for a longer one has waited for something, as for a database that was away."""


class Pace:
    def __init__(self, share: float) -> None:
        self._pause = 1 / share - 1
        self._next = 0.0

    def is_due(self, now: float) -> bool:
        """Whether there is time for another piece of it. All times are monotonic seconds."""
        return now >= self._next

    def spent(self, started: float, ended: float) -> None:
        """A piece of it took from one time to the other."""
        self._next = ended + min((ended - started) * self._pause, _LONGEST_PAUSE)
