"""B3: whole runs: create, start, five steps, complete."""

import contextlib
from collections.abc import AsyncGenerator

from bench.harness import Contestant, Scenario, Setting, Target
from bench.scenarios.commands import ROOMS, running_commands


@contextlib.asynccontextmanager
async def _open(setting: Setting) -> AsyncGenerator[list[Contestant], None]:
    async with running_commands(setting) as (_, commands):
        yield [
            Contestant("Runroom, whole runs", "runroom", commands.posts("life", ROOMS)),
            Contestant("Runroom, creates", "runroom", commands.posts("create", ROOMS)),
        ]


SCENARIO = Scenario(
    "B3",
    "the life of a run: create, start, 5 steps, complete; 64 callers, 1000 rooms",
    _open,
    (Target("commands/s", "Runroom, whole runs", "at least", 0.8, "Runroom, creates"),),
)
