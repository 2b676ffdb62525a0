"""Other people's event stores: programs in environments of their own, on the same PostgreSQL as Runroom.

``make bench-peers`` installs them; without it they are absent.
"""

import asyncio
import os
import shutil
from asyncio.subprocess import PIPE
from pathlib import Path
from typing import NamedTuple

import asyncpg
import msgspec

from bench.harness import Contestant, Figures
from bench.stack import Stack
from deploy.local.service import ROOT

MISSING = "not installed: make bench-peers"
_HERE = Path(__file__).parent
_INSTALLED = ROOT / ".bench"
_PATIENCE_SECONDS = 180.0


class Done(msgspec.Struct, frozen=True):
    """What a program did: ``events`` in ``seconds``, its own start not counted."""

    events: int
    seconds: float


class Peer(NamedTuple):
    """``append`` is what its program calls saving one event, ``connections`` what it is fastest with here.

    ``events``, ``runs`` and ``steps`` are its tables.
    """

    name: str
    home: Path
    """Where it is installed."""
    program: tuple[Path, ...]
    append: str
    connections: int
    events: str
    runs: str = "projected_runs"
    steps: str = "projected_steps"

    @property
    def is_installed(self) -> bool:
        return self.home.exists() and self.program[0].exists()

    async def run(self, *arguments: str) -> Done:
        """Raises ``AssertionError`` when the program fails."""
        environment = {**os.environ, "NODE_PATH": str(self.home)}
        process = await asyncio.create_subprocess_exec(
            *self.program, *arguments, env=environment, stdout=PIPE, stderr=PIPE
        )
        try:
            async with asyncio.timeout(_PATIENCE_SECONDS):
                printed, complaints = await process.communicate()
        except BaseException:
            process.kill()
            raise
        assert process.returncode == 0, f"{self.name}: {complaints.decode(errors='replace')}"
        return msgspec.json.decode(printed, type=Done)


EVENTSOURCING = Peer(
    "eventsourcing",
    _INSTALLED / "eventsourcing",
    (_INSTALLED / "eventsourcing" / "bin" / "python", _HERE / "with_eventsourcing.py"),
    append="save",
    connections=16,
    events="runs_events",
)
EMMETT = Peer(
    "emmett",
    _INSTALLED / "emmett" / "node_modules",
    (Path(shutil.which("node") or "node"), _HERE / "with_emmett.cjs"),
    append="append",
    connections=10,
    events="emt_messages",
)
PEERS = (EMMETT, EVENTSOURCING)


async def appending(peer: Peer, stack: Stack, callers: int = 64) -> Contestant:
    """Turns in which each caller stores one event after another, counted again in the peer's own table."""
    if not peer.is_installed:
        return Contestant(peer.name, "peer", None, why=MISSING)
    dsn = await stack.database(peer.name)

    async def measure(seconds: float) -> Figures:
        before = await _count(dsn, peer.events)
        done = await peer.run(peer.append, dsn, str(seconds), str(callers), str(peer.connections))
        stored = await _count(dsn, peer.events) - before
        assert stored == done.events, f"{peer.name}: {done.events} acknowledged, {stored} stored"
        return {"commands/s": done.events / done.seconds}

    return Contestant(peer.name, "peer", measure)


async def projecting(peer: Peer, stack: Stack, runs: int) -> Contestant:
    """Turns in which the peer projects so many runs of eight events, anew each time."""
    if not peer.is_installed:
        return Contestant(peer.name, "peer", None, why=MISSING)
    dsn = await stack.database(peer.name)
    filled = await peer.run("fill", dsn, str(runs))
    assert filled.events == await _count(dsn, peer.events) == 8 * runs

    async def measure(_: float) -> Figures:
        done = await peer.run("project", dsn)
        assert done.events == filled.events, f"{peer.name}: {done.events} of {filled.events} events projected"
        assert await _count(dsn, peer.runs, "status = 'succeeded' and output is not null") == runs
        assert await _count(dsn, peer.steps) == 5 * runs
        return {"events/s": done.events / done.seconds}

    return Contestant(peer.name, "peer", measure)


async def _count(dsn: str, table: str, condition: str = "true") -> int:
    """Rows of a table; 0 before there is one."""
    connection = await asyncpg.connect(dsn)
    try:
        if await connection.fetchval("select to_regclass($1)", table) is None:
            return 0
        return await connection.fetchval(f"select count(*) from {table} where {condition}")
    finally:
        await connection.close()
