"""What the scenarios of commands and their frames share: a whole stack, and turns in which each event is awaited."""

import contextlib
import itertools
from collections.abc import AsyncGenerator

from bench.harness import Figures, Measure, Setting
from bench.load import Plan, run_load
from bench.stack import Stack, running_stack


class Followed:
    """A command service, a query service and a projector."""

    def __init__(self, stack: Stack, command_port: int, query_port: int) -> None:
        self._stack = stack
        self._command_port = command_port
        self._query_port = query_port
        self._turns = itertools.count()

    def posts(self, *, rooms: int, callers: int, rate: float = 0.0) -> Measure:
        """Runs created in rooms that nobody has written to yet, with a viewer on each."""

        async def measure(seconds: float) -> Figures:
            before = await self._stack.stored()
            turn = next(self._turns)
            plan = Plan(
                kind="follow",
                port=self._command_port,
                feed_port=self._query_port,
                seconds=seconds,
                rooms=[f"room_{turn}_{number}" for number in range(rooms)],
                callers=callers,
                rate=rate,
            )
            counted = await run_load(plan)
            events = await self._stack.stored()
            assert events - before == counted.requests, f"{counted.requests} acknowledged, {events - before} stored"
            await self._stack.streamed(events)
            return counted.figures("commands") | counted.frame_figures()

        return measure


@contextlib.asynccontextmanager
async def running_followed(setting: Setting) -> AsyncGenerator[tuple[Stack, Followed], None]:
    async with running_stack(setting.folder) as stack:
        command = await stack.service("command")
        query = await stack.service("query")
        await stack.service("projector")
        yield stack, Followed(stack, command.port, query.port)
