"""Clients of room streams in a process of their own, which check that each gets every event once and in order."""

import asyncio
import contextlib
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncGenerator

import msgspec

from bench.viewers.plan import Order, Plan, Seen
from deploy.local.service import ROOT

__all__ = ["Plan", "Seen", "Viewers", "open_viewers"]

_MARGIN_SECONDS = 10.0
_MOST_ANSWER = 1 << 26


class Viewers:
    """Each call raises ``AssertionError`` when anything went wrong with any client since the last one."""

    def __init__(self, process: Process) -> None:
        self._process = process

    async def connect(self) -> Seen:
        """Connects all clients; they are in place when it returns."""
        return await self._ask(Order())

    async def saw(self, until: int, *, seconds: float = 60.0) -> Seen:
        """Waits until every client has got the event at the position."""
        return await self._ask(Order(until, seconds))

    async def _ask(self, order: Order) -> Seen:
        receive, send = self._process.stdout, self._process.stdin
        assert receive is not None
        assert send is not None
        send.write(msgspec.json.encode(order) + b"\n")
        async with asyncio.timeout(order.seconds + _MARGIN_SECONDS):
            line = await receive.readline()
        assert line, "the viewers' process has ended"
        seen = msgspec.json.decode(line, type=Seen)
        assert not seen.fault, seen.fault
        return seen


@contextlib.asynccontextmanager
async def open_viewers(plan: Plan) -> AsyncGenerator[Viewers, None]:
    """A process that waits for the word to connect."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bench.viewers", cwd=ROOT, stdin=PIPE, stdout=PIPE, limit=_MOST_ANSWER
    )
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(msgspec.json.encode(plan) + b"\n")
    try:
        await process.stdout.readline()
        yield Viewers(process)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
