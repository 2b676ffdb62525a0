"""Reads that take turns, and of which those that are the same are one.

Invariant: what a caller gets was read after the caller came. Whoever asks for what is being read already waits until it
is read again, together with everybody else who does.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from shared.tasks import begin_shared

K = TypeVar("K")
V = TypeVar("V")


class Joined(Generic[K, V]):
    """``at_once`` calls of ``read`` are under way at most, each for another key; others wait in the order they came."""

    def __init__(self, read: Callable[[K], Awaitable[V]], *, at_once: int) -> None:
        self._read = read
        self._turns = asyncio.Semaphore(at_once)
        self._wanted: dict[K, asyncio.Future[V]] = {}
        self._workers: dict[K, asyncio.Task[None]] = {}

    @property
    def waiting(self) -> int:
        """Keys that are yet to be read."""
        return len(self._wanted)

    async def get(self, key: K) -> V:
        """What ``read`` gives for the key. Raises whatever it raises."""
        future = self._wanted.get(key)
        if future is None:
            future = self._wanted[key] = asyncio.get_running_loop().create_future()
            if key not in self._workers:
                self._workers[key] = begin_shared(self._work(key), "joined reads")
        # Others may wait for the same.
        return await asyncio.shield(future)

    async def _work(self, key: K) -> None:
        while key in self._wanted:
            async with self._turns:
                # From here on it is too late to join.
                future = self._wanted.pop(key)
                try:
                    value = await self._read(key)
                except Exception as error:
                    future.set_exception(error)
                    future.exception()  # it is nobody's fault when nobody waits for it any more
                else:
                    future.set_result(value)
        # At once, not when the task is seen to be done: whoever comes in between has to start another.
        del self._workers[key]
