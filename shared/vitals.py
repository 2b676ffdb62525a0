"""The process's own vital signs: how late its event loop is, and how long garbage collections stop it.

Invariant: looking costs next to nothing: ten timers a second, and two calls for each collection.
"""

import asyncio
import contextlib
import gc
import time
from collections import deque
from collections.abc import Generator
from typing import Any

from shared.metrics import GC_PAUSE_SECONDS, LOOP_LAG_SECONDS

_TICK_SECONDS = 0.1
_PAUSES = [GC_PAUSE_SECONDS.labels(str(generation)) for generation in range(3)]


class _Watch:
    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._due = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._began = 0.0
        self._pauses: deque[tuple[int, float]] = deque(maxlen=1000)

    def start(self) -> None:
        self._due = self._loop.time() + _TICK_SECONDS
        self._timer = self._loop.call_at(self._due, self._tick)

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def collected(self, phase: str, info: dict[str, Any]) -> None:
        # Nothing more than this: a collection may begin anywhere, also where the lock of a metric is held.
        if phase == "start":
            self._began = time.perf_counter()
        elif self._began:
            self._pauses.append((info["generation"], time.perf_counter() - self._began))

    def _tick(self) -> None:
        LOOP_LAG_SECONDS.observe(max(0.0, self._loop.time() - self._due))
        while self._pauses:
            generation, seconds = self._pauses.popleft()
            _PAUSES[generation].observe(seconds)
        self.start()


@contextlib.contextmanager
def watched_process() -> Generator[None, None, None]:
    """Watches the running loop and the collector for the length of the block."""
    watch = _Watch(asyncio.get_running_loop())
    watch.start()
    gc.callbacks.append(watch.collected)
    try:
        yield
    finally:
        gc.callbacks.remove(watch.collected)
        watch.stop()
