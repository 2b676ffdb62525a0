"""B1: runs created by 64 callers in 1000 rooms; every answer after the commit, every event published."""

import contextlib
from collections.abc import AsyncGenerator

from bench.harness import Contestant, Scenario, Setting, Target
from bench.peers import EMMETT, EVENTSOURCING, appending
from bench.pgbench import insert_by_pgbench
from bench.scenarios.commands import ROOMS, no_op_post, running_commands


@contextlib.asynccontextmanager
async def _open(setting: Setting) -> AsyncGenerator[list[Contestant], None]:
    async with running_commands(setting) as (stack, commands):
        yield [
            Contestant("Runroom", "runroom", commands.posts("create", ROOMS)),
            await no_op_post(stack),
            await insert_by_pgbench(stack),
            await appending(EMMETT, stack),
            await appending(EVENTSOURCING, stack),
        ]


SCENARIO = Scenario(
    "B1",
    "POST /v1/runs, 64 callers, 1000 rooms",
    _open,
    (
        Target("commands/s", "Runroom", "at least", 0.5, "no-op POST"),
        Target("commands/s", "Runroom", "at least", 3, EMMETT.name),
        Target("commands/s", "Runroom", "at least", 10, EVENTSOURCING.name),
    ),
)
