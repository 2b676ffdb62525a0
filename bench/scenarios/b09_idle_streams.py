"""B9: what 9,000 streams cost that nothing happens on: memory, the CPU to connect them, pauses for everybody else.

A pause is seen from outside: how long the service takes at worst to answer ``/healthz``, asked every 5 ms. The same
without streams says how much of that is the machine's.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator

from bench.harness import Contestant, Figures, Measure, Scenario, Setting, Target
from bench.load import Plan as LoadPlan
from bench.load import run_load
from bench.process import cpu_seconds, resident_kib
from bench.stack import Stack, running_stack
from bench.viewers import Plan, open_viewers

_CLIENTS, _ROOMS = 9000, 90
_PROBES = 200.0
_SETTLE_SECONDS = 1.0


async def _pauses(port: int, seconds: float) -> Figures:
    # Connections enough that what is due is asked while others wait for their answer.
    probe = LoadPlan(kind="get", port=port, seconds=seconds, callers=16, paths=["/healthz"], rate=_PROBES)
    counted = await run_load(probe)
    return {"p50 ms pause": counted.p50, "longest ms pause": counted.most}


def _idle(stack: Stack, clients: int) -> Measure:
    async def measure(seconds: float) -> Figures:
        # A new process: one that has served streams before has the memory already.
        query = await stack.service("query")
        assert query.pid is not None
        paths = [f"/v1/streams/rooms/idle_{number}" for number in range(_ROOMS)]
        try:
            async with (
                open_viewers(Plan(port=query.port, paths=paths[:1], clients=1)) as first,
                open_viewers(Plan(port=query.port, paths=paths, clients=clients)) as viewers,
            ):
                await first.connect()
                cpu, memory = cpu_seconds(query.pid), resident_kib(query.pid)
                connected = await viewers.connect()
                cpu = cpu_seconds(query.pid) - cpu
                await asyncio.sleep(_SETTLE_SECONDS)
                pauses = await _pauses(query.port, seconds)
                memory = resident_kib(query.pid) - memory
                await viewers.saw(0)  # all are there still
        finally:
            await stack.end(query)
        return {
            "KiB each": memory / clients,
            "ms CPU to connect each": 1000 * cpu / clients,
            "connects/s": clients / (connected.done - connected.begun),
            **pauses,
        }

    return measure


def _no_streams(stack: Stack) -> Measure:
    async def measure(seconds: float) -> Figures:
        query = await stack.service("query")
        try:
            return await _pauses(query.port, seconds)
        finally:
            await stack.end(query)

    return measure


@contextlib.asynccontextmanager
async def _open(setting: Setting) -> AsyncGenerator[list[Contestant], None]:
    async with running_stack(setting.folder) as stack:
        await stack.service("command")  # the stream is of its making
        yield [
            Contestant("Runroom", "runroom", _idle(stack, round(_CLIENTS * setting.size))),
            Contestant("no streams", "floor", _no_streams(stack)),
        ]


SCENARIO = Scenario(
    "B9",
    "9,000 idle streams",
    _open,
    (
        Target("KiB each", "Runroom", "at most", 16),
        Target("ms CPU to connect each", "Runroom", "at most", 0.2),
        Target("longest ms pause", "Runroom", "at most", 50),
    ),
    # Longer than the time between two heartbeats.
    seconds=12.0,
    rounds=3,
)
