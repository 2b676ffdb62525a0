"""What is held of requests that have come and wait for their turn, in bytes, of all connections.

Invariant: it is bounded. They leave as the process gets to them and not as clients see fit, so that whoever is there
stays, and the one that comes next is refused.
"""

from typing import Final

from shared.http.problems import Problem

MOST_WAITING_BYTES: Final = 32 * 1024 * 1024
"""In a process."""


class Quota:
    """``limit`` in bytes; none without one."""

    def __init__(self, limit: int | None = None) -> None:
        self._limit = limit
        self._taken = 0

    def take(self, size: int) -> bool:
        """Whether there is so much; if not, nothing is taken."""
        if self._limit is not None and self._taken + size > self._limit:
            return False
        self._taken += size
        return True

    def give_back(self, size: int) -> None:
        self._taken -= size


def no_room_to_wait() -> Problem:
    detail = "too many large requests are waiting for their turn"
    return Problem(503, "overloaded", detail, retry_after=1)
