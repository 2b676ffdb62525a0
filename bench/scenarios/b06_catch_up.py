"""B6: projectors catching up with 1,000,000 events on the stream, from nothing."""

import asyncio
import contextlib
import itertools
import time
from collections.abc import AsyncGenerator

from bench.filling import EVENTS_A_RUN, Past, fill
from bench.harness import Contestant, Figures, Measure, Scenario, Setting, Target
from bench.peers import EMMETT, EVENTSOURCING, projecting
from bench.projected import check_projected, wait_applied
from bench.raw_pull import Plan, pull_raw
from bench.stack import Stack, running_stack
from deploy.local.service import ROOT
from shared.postgres import migrate

_EVENTS = 1_000_000
_PEER_EVENTS = 10_000
_ONE, _TWO, _FLOOR = "Runroom, 1 worker", "Runroom, 2 workers", "raw pull"


class _CatchUp:
    """Each turn has a projection database of its own."""

    def __init__(self, stack: Stack, past: Past) -> None:
        self._stack = stack
        self._past = past
        self._turns = itertools.count()

    def workers(self, count: int) -> Measure:
        async def measure(_: float) -> Figures:
            name = f"projections_{next(self._turns)}"
            dsn = await self._stack.database(name)
            await migrate(dsn, ROOT / "services" / "projector" / "migrations")
            mine = self._stack.postgres.dsn(name, "runroom_projector")
            started = time.perf_counter()
            starting = [self._stack.service("projector", PROJECTION_DSN=mine) for _ in range(count)]
            workers, applied = await asyncio.gather(asyncio.gather(*starting), wait_applied(dsn, self._past))
            for worker in workers:
                await self._stack.end(worker)
            await check_projected(dsn, self._past)
            await asyncio.to_thread(self._stack.postgres.execute, f"drop database {name}")
            return {"events/s": self._past.events / (applied - started)}

        return measure

    async def floor(self, _: float) -> Figures:
        seconds = await pull_raw(Plan(nats_url=self._stack.nats.url, messages=self._past.events))
        return {"events/s": self._past.events / seconds}


@contextlib.asynccontextmanager
async def _open(setting: Setting) -> AsyncGenerator[list[Contestant], None]:
    async with running_stack(setting.folder) as stack:
        catch_up = _CatchUp(stack, await fill(stack, int(_EVENTS * setting.size) // EVENTS_A_RUN))
        peer_runs = int(_PEER_EVENTS * setting.size) // EVENTS_A_RUN
        yield [
            Contestant(_ONE, "runroom", catch_up.workers(1)),
            Contestant(_TWO, "runroom", catch_up.workers(2)),
            Contestant(_FLOOR, "floor", catch_up.floor),
            await projecting(EMMETT, stack, peer_runs),
            await projecting(EVENTSOURCING, stack, peer_runs),
        ]


SCENARIO = Scenario(
    "B6",
    "projectors catch up with 1,000,000 events",
    _open,
    (
        Target("events/s", _ONE, "at least", 0.25, _FLOOR),
        Target("events/s", _ONE, "at least", 10, EMMETT.name),
        Target("events/s", _ONE, "at least", 10, EVENTSOURCING.name),
        Target("events/s", _TWO, "at least", 1.4, _ONE),
    ),
    rounds=2,
    warm_up=False,
)
