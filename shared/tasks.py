"""Beginning and ending background tasks.

Invariant: a task that was told to end is waited for until it has. One that works for several requests belongs to none.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Coroutine
from contextvars import Context
from typing import Any, TypeVar

_AGAIN_SECONDS = 5.0
"""Longer than what any of our tasks does at its end."""

T = TypeVar("T")


def begin_shared(work: Coroutine[Any, Any, T], name: str) -> asyncio.Task[T]:
    """A task whose log lines are not those of the request that it is begun by."""
    return asyncio.create_task(work, name=name, context=Context())


async def end_tasks(*tasks: asyncio.Task[None], again_seconds: float = _AGAIN_SECONDS) -> None:
    """Cancels the tasks and returns when they have ended; what they raise is for whoever watches them to see.

    They are cancelled again after ``again_seconds`` if need be. ``asyncio.wait_for``, which the NATS client is built
    on, loses a cancellation that comes in the same turn of the loop as what it waited for (CPython issue 86296, fixed
    in 3.12), and a task that tries something for ever then goes on doing so.
    """
    waiting = {task for task in tasks if not task.done()}
    while waiting:
        for task in waiting:
            task.cancel()
        _, waiting = await asyncio.wait(waiting, timeout=again_seconds)


@contextlib.asynccontextmanager
async def running_tasks(*tasks: asyncio.Task[None]) -> AsyncGenerator[tuple[asyncio.Task[None], ...], None]:
    """The tasks, for ``serve`` to watch; ended with the block. ``serve`` has reported what went wrong in them."""
    try:
        yield tasks
    finally:
        await end_tasks(*tasks)
        # Asked for, so that nothing complains that nobody did.
        await asyncio.gather(*tasks, return_exceptions=True)
