"""B5: 500 commands a second in 100 rooms with a viewer on each, whatever the answers do."""

import contextlib
from collections.abc import AsyncGenerator

from bench.harness import Contestant, Scenario, Setting, Target
from bench.scenarios.following import running_followed

_RATE, _ROOMS, _CALLERS = 500.0, 100, 64


@contextlib.asynccontextmanager
async def _open(setting: Setting) -> AsyncGenerator[list[Contestant], None]:
    async with running_followed(setting) as (_, followed):
        yield [Contestant("Runroom", "runroom", followed.posts(rooms=_ROOMS, callers=_CALLERS, rate=_RATE))]


SCENARIO = Scenario(
    "B5",
    "500 commands/s over 100 rooms, a viewer on each",
    _open,
    (
        Target("p99 ms", "Runroom", "at most", 25),
        Target("frame p99 ms", "Runroom", "at most", 25),
    ),
)
