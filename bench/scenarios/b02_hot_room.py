"""B2: the same as B1 on one hot room."""

import contextlib
from collections.abc import AsyncGenerator

from bench.harness import Contestant, Scenario, Setting, Target
from bench.scenarios.commands import HOT_ROOM, ROOMS, running_commands


@contextlib.asynccontextmanager
async def _open(setting: Setting) -> AsyncGenerator[list[Contestant], None]:
    async with running_commands(setting) as (_, commands):
        yield [
            Contestant("Runroom, one room", "runroom", commands.posts("create", HOT_ROOM)),
            Contestant("Runroom, 1000 rooms", "runroom", commands.posts("create", ROOMS)),
        ]


SCENARIO = Scenario(
    "B2",
    "POST /v1/runs, 64 callers, one hot room",
    _open,
    (Target("commands/s", "Runroom, one room", "at least", 0.9, "Runroom, 1000 rooms"),),
)
