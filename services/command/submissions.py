"""Commands on their way to an outcome: as many as may wait, in the order they came.

Invariant: what is counted is what is held. Whoever has an answer, or has left, is counted no longer and leaves nothing
in the queue.
"""

import asyncio
from collections import deque
from collections.abc import Generator, Iterable
from contextlib import contextmanager

from services.command import metrics
from services.command.domain.batch import Accepted, Outcome, Request

_BATCH_BYTES = 16 * 1024 * 1024
"""A batch ends with the command that reaches it."""


class OverloadedError(Exception):
    """The queue is full."""


class NotStorableError(Exception):
    """The event store cannot hold the command's event."""


class MisnumberedRoomError(Exception):
    """A number of the room in the event store, its own or a run's version, is not that of its events: nothing that
    needs it is committed until it is."""


class StoreUnavailableError(Exception):
    """The event store did not settle the command in time; whether it was committed may be unknown."""


class BatchCrashedError(Exception):
    """A fault: the log has it with its traceback."""


class Submission:
    """A command waiting for its outcome. ``attempts`` are the events of commits whose outcome is unknown."""

    __slots__ = ("attempts", "future", "request", "size")

    def __init__(self, request: Request, size: int, future: "asyncio.Future[Outcome]") -> None:
        self.request = request
        self.size = size
        self.future = future
        self.attempts: dict[str, Accepted] = {}

    def settle(self, outcome: Outcome) -> None:
        if not self.future.done():
            self.future.set_result(outcome)

    def fail(self, error: Exception) -> None:
        if not self.future.done():
            self.future.set_exception(error)


class Submissions:
    """At most ``most_commands`` at a time, and ``most_bytes`` of them; each waits ``patience`` seconds at most."""

    def __init__(self, *, most_commands: int, most_bytes: int, batch_commands: int, patience: float) -> None:
        self._most_commands = most_commands
        self._most_bytes = most_bytes
        self._batch_commands = batch_commands
        self._patience = patience
        self._queue: deque[Submission] = deque()
        self._commands = self._bytes = 0
        """Of those without an outcome yet, and of bodies that are yet to be read."""
        self._arrived = asyncio.Event()

    @contextmanager
    def expecting(self, size: int) -> Generator[None, None, None]:
        """While a body of ``size`` bytes waits to be read. Raises ``OverloadedError`` as ``submit`` would."""
        self._check_room()
        self._count(1, size)
        try:
            yield
        finally:
            self._count(-1, -size)

    async def submit(self, request: Request, size: int) -> Outcome:
        """The outcome of a command that takes ``size`` bytes, once it is committed or refused.

        Raises ``OverloadedError`` at once when too many are waiting, ``StoreUnavailableError`` when it waits too long.
        """
        self._check_room()
        loop = asyncio.get_running_loop()
        submission = Submission(request, size, loop.create_future())
        expiry = loop.call_later(self._patience, submission.fail, StoreUnavailableError())
        self._count(1, size)
        self.enqueue((submission,))
        try:
            return await submission.future
        finally:
            expiry.cancel()
            self._count(-1, -size)
            # What the future failed with leads here, and from here to the future: a cycle, with the command in it.
            del submission, expiry
            self._let_go()

    def enqueue(self, submissions: Iterable[Submission]) -> None:
        self._queue.extend(submissions)
        self._arrived.set()

    async def arrived(self) -> None:
        """Returns when there are some."""
        await self._arrived.wait()

    def take(self) -> list[Submission]:
        """The next batch. It may be empty, as those who were there may have left."""
        batch: list[Submission] = []
        size = 0
        while self._queue and len(batch) < self._batch_commands and size < _BATCH_BYTES:
            batch.append(self._queue.popleft())
            size += batch[-1].size
        metrics.QUEUE.set(len(self._queue))
        if not self._queue:
            self._arrived.clear()
        return batch

    def fail(self, error: Exception) -> None:
        """All that are waiting."""
        for submission in self._queue:
            submission.fail(error)

    def _check_room(self) -> None:
        if self._commands >= self._most_commands or self._bytes >= self._most_bytes:
            raise OverloadedError

    def _count(self, commands: int, size: int) -> None:
        self._commands += commands
        self._bytes += size

    def _let_go(self) -> None:
        """Of those who have been answered without a commit: they waited longest, so they stand in front."""
        while self._queue and self._queue[0].future.done():
            self._queue.popleft()
