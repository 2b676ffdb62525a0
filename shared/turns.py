"""Taking turns: work that a thousand clients may have for the process at once.

Invariant: no turn of the loop does more than a little of it, and whoever came first goes first. What does not take
turns is not kept waiting: it comes in between two of them.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import NamedTuple


class _Place(NamedTuple):
    weight: int
    work: Callable[[], None]


class Turns:
    """Lets ``at_once`` through in each turn of the loop, in any unit.

    What weighs more has as many turns for itself as it weighs: in all but the first, everybody else goes on.
    """

    def __init__(self, at_once: int) -> None:
        self._at_once = at_once
        self._left = at_once
        self._queue: deque[_Place] = deque()
        self._is_counting = False

    def enter(self, work: Callable[[], None]) -> None:
        """Does the work: at once, or in a later turn if too many others have had theirs in this one."""
        if not self._queue and self._may_go(1):
            work()
        else:
            self._queue.append(_Place(1, work))

    async def take(self, weight: int = 1) -> None:
        """Returns when it is the caller's turn."""
        if not self._queue and self._may_go(weight):
            return
        place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._queue.append(_Place(weight, partial(_give, place)))
        await place

    def _may_go(self, weight: int) -> bool:
        self._count()
        if self._left < min(weight, self._at_once):
            return False
        self._left -= weight
        return True

    def _count(self) -> None:
        if not self._is_counting:
            self._is_counting = True
            asyncio.get_running_loop().call_soon(self._next)

    def _next(self) -> None:
        self._left = min(self._left + self._at_once, self._at_once)
        self._is_counting = False
        if self._left < self._at_once:
            self._count()
        while self._queue and self._may_go(self._queue[0].weight):
            self._queue.popleft().work()


def _give(place: asyncio.Future[None]) -> None:
    if not place.done():  # the caller was cancelled
        place.set_result(None)
