"""Filling and comparing the pages of a version, in as many processes as are wanted.

Invariant: no process outlives the command that started it by more than a moment, however that ends.
"""

import asyncio
import multiprocessing
import os
import signal
import threading
from collections.abc import AsyncGenerator, Callable, Coroutine, Sequence
from concurrent.futures import BrokenExecutor, ProcessPoolExecutor
from multiprocessing.sharedctypes import Synchronized
from typing import Any, TypeVar

import uvloop

from services.projector.rebuild.afresh import compare_pages
from services.projector.rebuild.fill import Filled, Target, fill_pages
from services.projector.verify.report import Report
from services.projector.verify.rooms import Page

_SHOW_SECONDS = 0.25
_PORTION_PAGES = 10
_PORTIONS_A_JOB = 10

_Task = TypeVar("_Task")
_Result = TypeVar("_Result")
_Work = Callable[[Target, _Task, Callable[[int], None]], Coroutine[Any, Any, _Result]]
"""A function of a module, to be found there by other processes. The last argument takes what it has done, in events."""

_counted: "Synchronized[int]"
"""In a process that works: the events that all of them are done with."""


class JobEndedError(Exception):
    """A process that was filling or comparing is gone."""


async def fill(target: Target, jobs: int, pages: Sequence[Page], show: Callable[[int], None]) -> Filled:
    """``show`` takes the number of events filled by now, again and again.

    Raises ``JobEndedError``, ``WrongRowsError`` or one of ``STORE_ERRORS``.
    """
    whole = Filled([], [], [])
    async for part in _each(fill_pages, target, _portions(pages, jobs), jobs, show):
        whole.left.extend(part.left)
        whole.unchecked.extend(part.unchecked)
        whole.extents.extend(part.extents)
    return whole


async def compare(target: Target, jobs: int, pages: Sequence[Page], report: Report) -> None:
    """Adds what is found to the report. Raises ``JobEndedError`` or one of ``STORE_ERRORS``."""
    async for findings in _each(compare_pages, target, _portions(pages, jobs), jobs, lambda _: None):
        report.add(findings)


def _portions(pages: Sequence[Page], jobs: int) -> list[Sequence[Page]]:
    """So small that no process is left with much to do in the end, and large enough to connect for."""
    size = max(1, min(_PORTION_PAGES, len(pages) // (_PORTIONS_A_JOB * jobs)))
    return [pages[start : start + size] for start in range(0, len(pages), size)]


async def _each(
    work: _Work[_Task, _Result], target: Target, tasks: Sequence[_Task], jobs: int, show: Callable[[int], None]
) -> AsyncGenerator[_Result, None]:
    """The results of the tasks, in whatever order. One job is done in this very process."""
    if jobs > 1 and len(tasks) > 1:
        async for result in _in_processes(work, target, tasks, min(jobs, len(tasks)), show):
            yield result
        return
    counted = 0

    def count(events: int) -> None:
        nonlocal counted
        counted += events
        show(counted)

    for task in tasks:
        yield await work(target, task, count)


async def _in_processes(
    work: _Work[_Task, _Result], target: Target, tasks: Sequence[_Task], jobs: int, show: Callable[[int], None]
) -> AsyncGenerator[_Result, None]:
    context = multiprocessing.get_context("spawn")
    counted = context.Value("q", 0)
    with ProcessPoolExecutor(jobs, context, _begin, (counted,)) as pool:
        loop = asyncio.get_running_loop()
        waiting = {loop.run_in_executor(pool, _do, work, target, task) for task in tasks}
        try:
            while waiting:
                done, waiting = await asyncio.wait(waiting, timeout=_SHOW_SECONDS, return_when=asyncio.FIRST_COMPLETED)
                # Without its lock, which a process that was killed may have taken with it.
                show(counted.get_obj().value)
                # All of them are asked, as the first error ends this, and one that nobody hears of is logged as that.
                for task in done:
                    task.exception()
                for task in done:
                    yield task.result()
        except BaseException as error:
            for task in waiting:
                task.cancel()
            for process in multiprocessing.active_children():
                process.kill()
            if isinstance(error, BrokenExecutor):
                raise JobEndedError("a process that was at work is gone; call this again") from error
            raise


def _begin(counted: "Synchronized[int]") -> None:
    global _counted
    _counted = counted
    # Ctrl-C is the parent's, and with it we end.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    if (parent := multiprocessing.parent_process()) is not None:
        parent.join()
        os._exit(1)


def _do(work: _Work[_Task, _Result], target: Target, task: _Task) -> _Result:
    return uvloop.run(work(target, task, _count))


def _count(events: int) -> None:
    with _counted.get_lock():
        _counted.value += events
