"""``python -m bench.commit_and_publish``: the floor of a command's way to a viewer, without any service.

One row the size of an event is committed, then a message of that size is published to NATS and received again on the
same connection; again and again. A plan on standard input, what was measured on standard output.
"""

import asyncio
import sys
import time
from asyncio.subprocess import PIPE

import asyncpg
import msgspec
import nats
import uvloop
from nats.aio.msg import Msg

from bench.harness import Figures
from deploy.local.service import ROOT

_ENVELOPE = b"{" + b"x" * 698 + b"}"
_TABLE = "create table if not exists committed (number bigint primary key, envelope bytea not null)"
_SUBJECT = "bench.floor"


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    dsn: str
    nats_url: str
    seconds: float


async def commit_and_publish(plan: Plan) -> Figures:
    """Milliseconds: of both together, and the medians of each. Raises ``AssertionError`` when a row is missing."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bench.commit_and_publish", cwd=ROOT, stdin=PIPE, stdout=PIPE, stderr=PIPE
    )
    printed, complaints = await process.communicate(msgspec.json.encode(plan))
    assert process.returncode == 0, complaints.decode(errors="replace")
    return msgspec.json.decode(printed, type=Figures)


async def _measure(plan: Plan) -> Figures:
    connection = await asyncpg.connect(plan.dsn)
    await connection.execute(_TABLE)
    first: int = await connection.fetchval("select count(*) from committed")
    insert = await connection.prepare("insert into committed values ($1, $2)")
    client = await nats.connect(plan.nats_url)
    arrived: asyncio.Queue[Msg] = asyncio.Queue()
    await client.subscribe(_SUBJECT, cb=arrived.put)
    commits: list[float] = []
    publishes: list[float] = []
    until = time.perf_counter() + plan.seconds
    while (sent := time.perf_counter()) < until:
        await insert.fetch(first + len(commits), _ENVELOPE)
        committed = time.perf_counter()
        await client.publish(_SUBJECT, _ENVELOPE)
        await arrived.get()
        commits.append(committed - sent)
        publishes.append(time.perf_counter() - committed)
    stored: int = await connection.fetchval("select count(*) from committed")
    assert stored == first + len(commits), f"{len(commits)} commits, {stored - first} rows"
    await client.close()
    await connection.close()
    both = [commit + publish for commit, publish in zip(commits, publishes, strict=True)]
    return {
        "p50 ms": _percentile(both, 50),
        "p99 ms": _percentile(both, 99),
        "commit p50 ms": _percentile(commits, 50),
        "publish p50 ms": _percentile(publishes, 50),
    }


def _percentile(seconds: list[float], percent: int) -> float:
    return 1000 * sorted(seconds)[len(seconds) * percent // 100]


def main() -> int:
    figures = uvloop.run(_measure(msgspec.json.decode(sys.stdin.buffer.read(), type=Plan)))
    sys.stdout.buffer.write(msgspec.json.encode(figures))
    return 0


if __name__ == "__main__":
    sys.exit(main())
