"""``python -m bench.history``: the floor of resuming. Reads the history of rooms a number of times; no service at all.

A plan on standard input, the seconds it took on standard output.
"""

import asyncio
import itertools
import sys
import time
from asyncio.subprocess import PIPE

import asyncpg
import msgspec
import uvloop

from deploy.local.service import ROOT

_SELECT = """select stream_seq, envelope from proj_room_events
where workspace_id = $1 and room_id = $2 and stream_seq > 0 order by stream_seq limit $3"""


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """``times`` reads of ``events`` each, one room after another, so many at once."""

    dsn: str
    rooms: list[str]
    events: int
    times: int
    at_once: int = 10
    workspace_id: str = "bench"


async def read_history(plan: Plan) -> float:
    """The seconds it takes in a process of its own. Raises ``AssertionError`` unless each read is complete."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bench.history", cwd=ROOT, stdin=PIPE, stdout=PIPE, stderr=PIPE
    )
    printed, complaints = await process.communicate(msgspec.json.encode(plan))
    assert process.returncode == 0, complaints.decode(errors="replace")
    return float(printed)


async def _read(plan: Plan) -> float:
    rooms = itertools.islice(itertools.cycle(plan.rooms), plan.times)
    expected = list(range(1, plan.events + 1))

    async def some(connection: asyncpg.Connection) -> None:
        for room in rooms:
            rows = await connection.fetch(_SELECT, plan.workspace_id, room, plan.events)
            assert [row[0] for row in rows] == expected, f"{len(rows)} events of {room}"

    connections = [await asyncpg.connect(plan.dsn) for _ in range(plan.at_once)]
    started = time.monotonic()
    await asyncio.gather(*(some(connection) for connection in connections))
    return time.monotonic() - started


def main() -> int:
    print(uvloop.run(_read(msgspec.json.decode(sys.stdin.buffer.read(), type=Plan))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
