"""Memory: what each service holds idle, under B1 for five minutes, and with 9,000 streams; and that it stays that.

Growth is the median of the last fifth of a turn by that of the second fifth: caches are full by then, and what goes on
growing is a leak.
"""

import asyncio
import contextlib
import statistics
from collections.abc import AsyncGenerator, Mapping

from bench.harness import Contestant, Figures, Scenario, Setting, Target
from bench.load import Plan as LoadPlan
from bench.load import run_load
from bench.process import resident_kib
from bench.projected import wait_level
from bench.scenarios.commands import ROOMS
from bench.stack import Stack, running_stack
from bench.viewers import Plan, open_viewers
from deploy.local.service import Service

_SAMPLE_SECONDS = 0.5
_SETTLE_SECONDS = 1.0
_VIEWERS, _WATCHED = 100, 10
"""Few rooms: what a room keeps of its last events is full after three minutes of this load."""
_STREAMS_SHARE = 0.4
_CLIENTS, _STREAM_ROOMS = 9000, 90
_LOAD, _STREAMS = "under B1", "9,000 streams"


class _Samples:
    """Resident sizes of some services, taken all the time until the end."""

    def __init__(self, services: Mapping[str, Service]) -> None:
        self._services = services
        self.idle = self._look()
        self._taken: list[dict[str, float]] = []
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> "_Samples":
        self._task = asyncio.create_task(self._take())
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._task is not None:
            self._task.cancel()

    def figures(self) -> Figures:
        fifth = max(len(self._taken) // 5, 1)
        figures: Figures = {}
        for name in self._services:
            sizes = [sample[name] for sample in self._taken]
            early, late = statistics.median(sizes[fifth : 2 * fifth] or sizes), statistics.median(sizes[-fifth:])
            figures |= {
                f"MiB {name} idle": self.idle[name],
                f"MiB {name}": late,
                f"{name} growth": late / early,
            }
        return figures

    def _look(self) -> dict[str, float]:
        sizes: dict[str, float] = {}
        for name, service in self._services.items():
            assert service.pid is not None, f"{name} is not running"
            sizes[name] = resident_kib(service.pid) / 1024
        return sizes

    async def _take(self) -> None:
        while True:
            self._taken.append(self._look())
            await asyncio.sleep(_SAMPLE_SECONDS)


class _Memory:
    """Each turn has services of its own: those that have served before have the memory already."""

    def __init__(self, stack: Stack, size: float) -> None:
        self._stack = stack
        self._clients = round(_CLIENTS * size)

    async def under_load(self, seconds: float) -> Figures:
        services = {name: await self._stack.service(name) for name in ("command", "projector", "query")}
        before = await self._stack.stored()
        viewers = Plan(
            port=services["query"].port,
            paths=[f"/v1/streams/rooms/{room}" for room in ROOMS[:_WATCHED]],
            clients=_VIEWERS,
        )
        load = LoadPlan(kind="create", port=services["command"].port, seconds=seconds, rooms=ROOMS)
        await asyncio.sleep(_SETTLE_SECONDS)
        try:
            async with open_viewers(viewers) as watching, _Samples(services) as samples:
                await watching.connect()
                counted = await run_load(load)
                await watching.saw(0)
            events = await self._stack.stored()
            assert events - before == counted.requests, f"{counted.requests} acknowledged, {events - before} stored"
            await self._stack.streamed(events)
            await wait_level(self._stack.projection_dsn, events)
        finally:
            for service in services.values():
                await self._stack.end(service)
        return {"commands": float(counted.requests), **samples.figures()}

    async def with_streams(self, seconds: float) -> Figures:
        query = await self._stack.service("query")
        paths = [f"/v1/streams/rooms/idle_{number}" for number in range(_STREAM_ROOMS)]
        await asyncio.sleep(_SETTLE_SECONDS)
        idle = _Samples({"query": query})
        try:
            async with open_viewers(Plan(port=query.port, paths=paths, clients=self._clients)) as viewers:
                await viewers.connect()
                async with _Samples({"query": query}) as samples:
                    await asyncio.sleep(seconds * _STREAMS_SHARE)
                await viewers.saw(0)
        finally:
            await self._stack.end(query)
        return samples.figures() | {"MiB query idle": idle.idle["query"]}


@contextlib.asynccontextmanager
async def _open(setting: Setting) -> AsyncGenerator[list[Contestant], None]:
    async with running_stack(setting.folder) as stack:
        memory = _Memory(stack, setting.size)
        yield [
            Contestant(_LOAD, "runroom", memory.under_load),
            Contestant(_STREAMS, "runroom", memory.with_streams),
        ]


SCENARIO = Scenario(
    "memory",
    "resident size idle, under B1 for five minutes with 100 viewers, and with 9,000 streams",
    _open,
    (
        *(Target(f"{name} growth", _LOAD, "at most", 1.1) for name in ("command", "projector", "query")),
        Target("query growth", _STREAMS, "at most", 1.1),
    ),
    seconds=300.0,
    rounds=1,
    warm_up=False,
)
