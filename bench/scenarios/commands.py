"""What the scenarios of the command service share: Runroom and the no-op POST under the same load."""

import contextlib
from collections.abc import AsyncGenerator
from typing import Literal

from bench.harness import Contestant, Figures, Measure, Setting
from bench.load import Plan, run_load
from bench.stack import Stack, running_stack

ROOMS = [f"room_{number}" for number in range(1000)]
HOT_ROOM = ["hot"]


class Commands:
    """A stack with one command service, and turns on it that are checked."""

    def __init__(self, stack: Stack, port: int) -> None:
        self._stack = stack
        self._port = port

    def posts(self, kind: Literal["create", "life"], rooms: list[str], callers: int = 64) -> Measure:
        async def measure(seconds: float) -> Figures:
            before = await self._stack.stored()
            plan = Plan(kind=kind, port=self._port, seconds=seconds, rooms=rooms, callers=callers)
            counted = await run_load(plan)
            events = await self._stack.stored()
            assert events - before == counted.requests, f"{counted.requests} acknowledged, {events - before} stored"
            await self._stack.streamed(events)
            return counted.figures("commands")

        return measure


@contextlib.asynccontextmanager
async def running_commands(setting: Setting) -> AsyncGenerator[tuple[Stack, Commands], None]:
    async with running_stack(setting.folder) as stack:
        service = await stack.service("command")
        yield stack, Commands(stack, service.port)


async def no_op_post(stack: Stack) -> Contestant:
    """The same server, framework and body types with nothing behind them."""
    service = await stack.process("bench.noop", "NOOP_PORT")

    async def measure(seconds: float) -> Figures:
        plan = Plan(kind="create", port=service.port, seconds=seconds, rooms=ROOMS)
        return (await run_load(plan)).figures("commands")

    return Contestant("no-op POST", "floor", measure)
