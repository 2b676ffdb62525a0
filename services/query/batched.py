"""Many look-ups in one question: the next batch is whatever was asked for while the last ones were under way.

Invariant: what a caller gets was asked of the source after the caller came.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from itertools import islice
from typing import Generic, TypeVar

from shared.tasks import begin_shared

K = TypeVar("K")
V = TypeVar("V")


class Batched(Generic[K, V]):
    """``look_up`` takes up to ``most`` keys and gives what it finds; ``at_once`` of its calls are under way at most."""

    def __init__(self, look_up: Callable[[list[K]], Awaitable[Mapping[K, V]]], *, most: int, at_once: int) -> None:
        self._look_up = look_up
        self._most = most
        self._at_once = at_once
        self._wanted: dict[K, asyncio.Future[V | None]] = {}
        self._workers: set[asyncio.Task[None] | None] = set()

    @property
    def waiting(self) -> int:
        """Keys that nobody has asked the source for yet."""
        return len(self._wanted)

    async def get(self, key: K) -> V | None:
        """What there is under the key, or None. Raises whatever ``look_up`` does."""
        future = self._wanted.get(key)
        if future is None:
            future = self._wanted[key] = asyncio.get_running_loop().create_future()
        if len(self._workers) < self._at_once:
            self._workers.add(begin_shared(self._work(), "look-ups"))
        # Others may wait for the same.
        return await asyncio.shield(future)

    async def _work(self) -> None:
        while self._wanted:
            batch = {key: self._wanted.pop(key) for key in list(islice(self._wanted, self._most))}
            try:
                found = await self._look_up(list(batch))
            except Exception as error:
                for future in batch.values():
                    future.set_exception(error)
                    future.exception()  # it is nobody's fault when nobody waits for it any more
            else:
                for key, future in batch.items():
                    future.set_result(found.get(key))
        # At once, not when the task is seen to be done: whoever comes in between has to start another.
        self._workers.discard(asyncio.current_task())
