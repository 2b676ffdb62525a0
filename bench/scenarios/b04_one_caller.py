"""B4: one caller, one command at a time: until its answer, and until its event's frame has reached a viewer."""

import contextlib
from collections.abc import AsyncGenerator

from bench.commit_and_publish import Plan, commit_and_publish
from bench.harness import Contestant, Figures, Scenario, Setting, Target
from bench.scenarios.following import running_followed

_FLOOR = "commit + publish"


@contextlib.asynccontextmanager
async def _open(setting: Setting) -> AsyncGenerator[list[Contestant], None]:
    async with running_followed(setting) as (stack, followed):
        dsn = await stack.database("floor")

        async def floor(seconds: float) -> Figures:
            return await commit_and_publish(Plan(dsn=dsn, nats_url=stack.nats.url, seconds=seconds))

        yield [
            Contestant("Runroom", "runroom", followed.posts(rooms=1, callers=1)),
            Contestant(_FLOOR, "floor", floor),
        ]


SCENARIO = Scenario(
    "B4",
    "one caller, one command at a time, one viewer",
    _open,
    (
        Target("p50 ms", "Runroom", "at most", 3, _FLOOR),
        Target("p99 ms", "Runroom", "at most", 10, _FLOOR),
        Target("frame p50 ms", "Runroom", "at most", 3, _FLOOR, "p50 ms"),
        Target("frame p99 ms", "Runroom", "at most", 10, _FLOOR, "p99 ms"),
    ),
)
