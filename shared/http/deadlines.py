"""Times by which clients have to have sent something, kept for thousands of them by one timer.

Invariant: whoever is watched and not forgotten is told once, within a second after its time.
"""

import asyncio
from typing import Final, Protocol

LINGER_SECONDS: Final = 2.0
"""Closed at once, with something unread, the connection would be reset, and the client might not see the answer."""
MOST_LINGERING: Final = 1000
"""Connections of a process."""


class Watched(Protocol):
    def expired(self) -> None:
        """Its time is over."""
        ...


class Deadlines:
    """The same span for everybody, so that who came first is due first. To watch and to forget take 0.5 µs together.

    ``most`` are watched at a time: with one more, who came first is told at once.
    """

    def __init__(self, seconds: float, most: int | None = None) -> None:
        self.seconds = seconds
        self._most = most
        self._due: dict[Watched, float] = {}
        self._timer: asyncio.TimerHandle | None = None

    def watch(self, watched: Watched) -> None:
        """Its time begins now; who is watched already is not watched again."""
        loop = asyncio.get_running_loop()
        self._due.setdefault(watched, loop.time() + self.seconds)
        if self._most is not None and len(self._due) > self._most:
            first = next(iter(self._due))
            del self._due[first]
            first.expired()
        if self._timer is None:
            self._timer = loop.call_later(self.seconds, self._look)

    def forget(self, watched: Watched) -> None:
        self._due.pop(watched, None)

    def _look(self) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        over: list[Watched] = []
        self._timer = None
        for watched, due in self._due.items():
            if due > now:
                self._timer = loop.call_later(min(due - now + 0.01, self.seconds), self._look)
                break
            over.append(watched)
        for watched in over:
            self._due.pop(watched, None)
            watched.expired()


class RequestTimes:
    """Shared by all connections of a server, in seconds. ``head`` begins with the connection, or the first byte;
    ``body`` with the end of the head; ``end`` when the last has been sent to who may have yet to send something."""

    def __init__(self, head: float, body: float, end: float = LINGER_SECONDS) -> None:
        self.head = Deadlines(head)
        self.body = Deadlines(body)
        self.end = Deadlines(end, MOST_LINGERING)
