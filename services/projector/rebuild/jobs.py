"""Filling all partitions of a version, in as many processes as are wanted.

Invariant: no process outlives the command that started it by more than a moment, however that ends.
"""

import asyncio
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable
from concurrent.futures import BrokenExecutor, ProcessPoolExecutor
from multiprocessing.sharedctypes import Synchronized

import uvloop

from services.projector.rebuild.fill import Target, fill_partition
from shared.contracts.ids import RoomKey
from shared.contracts.subjects import PARTITIONS

_SHOW_SECONDS = 0.25

_filled: "Synchronized[int]"
"""In a process that fills: the events filled by all of them."""


class JobEndedError(Exception):
    """A process that was filling is gone."""


async def fill(target: Target, jobs: int, show: Callable[[int], None]) -> list[RoomKey]:
    """The rooms left to the workers. ``show`` takes the number of events filled by now, again and again.

    One job is done in this very process. Raises ``JobEndedError`` or one of ``STORE_ERRORS``.
    """
    return await (_here(target, show) if jobs == 1 else _in_processes(target, jobs, show))


async def _here(target: Target, show: Callable[[int], None]) -> list[RoomKey]:
    filled = 0

    def count(events: int) -> None:
        nonlocal filled
        filled += events
        show(filled)

    return [key for partition in range(PARTITIONS) for key in await fill_partition(target, partition, count)]


async def _in_processes(target: Target, jobs: int, show: Callable[[int], None]) -> list[RoomKey]:
    context = multiprocessing.get_context("spawn")
    filled = context.Value("q", 0)
    left: list[RoomKey] = []
    with ProcessPoolExecutor(min(jobs, PARTITIONS), context, _begin, (filled,)) as pool:
        loop = asyncio.get_running_loop()
        waiting = {loop.run_in_executor(pool, _fill, target, partition) for partition in range(PARTITIONS)}
        try:
            while waiting:
                done, waiting = await asyncio.wait(waiting, timeout=_SHOW_SECONDS, return_when=asyncio.FIRST_COMPLETED)
                # Without its lock, which a process that was killed may have taken with it.
                show(filled.get_obj().value)
                left += [key for task in done for key in task.result()]
        except BaseException as error:
            for task in waiting:
                task.cancel()
            for process in multiprocessing.active_children():
                process.kill()
            if isinstance(error, BrokenExecutor):
                raise JobEndedError("a process that was filling is gone; call this again") from error
            raise
    return left


def _begin(filled: "Synchronized[int]") -> None:
    global _filled
    _filled = filled
    # Ctrl-C is the parent's, and with it we end.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    if (parent := multiprocessing.parent_process()) is not None:
        parent.join()
        os._exit(1)


def _fill(target: Target, partition: int) -> list[RoomKey]:
    return uvloop.run(fill_partition(target, partition, _count))


def _count(events: int) -> None:
    with _filled.get_lock():
        _filled.value += events
