"""Projector workers as real processes, and what they have written."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import asyncpg

from tests.integration.projector.history import RoomHistory
from tests.support.servers import REPOSITORY, as_service

PROJECTIONS = ("runs", "room_feed")
_QUERIES = {
    "runs": "select * from proj_runs order by run_id",
    "steps": "select * from proj_steps order by step_id",
    "run_tags": "select * from proj_run_tags order by tag, run_id",
    "room_events": "select * from proj_room_events order by workspace_id, room_id, stream_seq",
    "rooms": "select projection, workspace_id, room_id, partition, applied_seq from proj_rooms order by 1, 2, 3",
}


class Workers:
    """Workers of one deployment, started and killed one by one."""

    def __init__(self, event_store_dsn: str, projection_dsn: str, nats_url: str, logs: Path) -> None:
        self.projection_dsn = projection_dsn
        self.logs = logs
        self._environment = {
            **os.environ,
            **as_service("projector", nats=nats_url, EVENT_STORE_DSN=event_store_dsn, PROJECTION_DSN=projection_dsn),
            "PROJECTOR_PORT": "0",
            "LOG_FORMAT": "json",
            "PYTHONWARNINGS": "default",
        }
        self._processes: list[subprocess.Popen[bytes]] = []

    def start(self, release: Path = REPOSITORY, **environment: str) -> subprocess.Popen[bytes]:
        """Starts one more, of the code in a folder."""
        with (self.logs / f"worker-{len(self._processes)}.log").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "services.projector"],
                cwd=release,
                env={**self._environment, **environment},
                stdout=log,
                stderr=log,
            )
        self._processes.append(process)
        return process

    @property
    def running(self) -> list[bool]:
        """Which of the processes run, in the order they were started."""
        return [process.poll() is None for process in self._processes]

    def log(self) -> str:
        return "".join(path.read_text() for path in sorted(self.logs.glob("worker-*.log")))

    def end(self) -> None:
        for process in self._processes:
            if process.poll() is None:
                process.send_signal(signal.SIGCONT)
                process.terminate()
        for process in self._processes:
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@contextmanager
def running(event_store_dsn: str, projection_dsn: str, nats_url: str, logs: Path, count: int = 1) -> Iterator[Workers]:
    workers = Workers(event_store_dsn, projection_dsn, nats_url, logs)
    try:
        for _ in range(count):
            workers.start()
        yield workers
    finally:
        workers.end()


async def applied(
    dsn: str, histories: Iterable[RoomHistory], *, projections: tuple[str, ...] = PROJECTIONS, seconds: float = 40.0
) -> float:
    """Waits until the projections have come to the end of the histories. The seconds it took."""
    started = time.monotonic()
    expected = {(name, *history.key, history.head) for history in histories for name in projections}
    connection = await asyncpg.connect(dsn)
    try:
        while True:
            rows = await connection.fetch("select projection, workspace_id, room_id, applied_seq from proj_rooms")
            missing = expected - {tuple(row) for row in rows}
            if not missing:
                return time.monotonic() - started
            if time.monotonic() - started > seconds:
                raise AssertionError(f"not applied after {seconds} s: {sorted(missing)[:5]} of {len(missing)}")
            await asyncio.sleep(0.02)
    finally:
        await connection.close()


async def owners(dsn: str) -> dict[str, dict[str | None, int]]:
    """Projection → owner → partitions."""
    connection = await asyncpg.connect(dsn)
    try:
        rows = await connection.fetch("select projection, owner, count(*) from projector_leases group by 1, 2")
    finally:
        await connection.close()
    found: dict[str, dict[str | None, int]] = {}
    for projection, owner, count in rows:
        found.setdefault(projection, {})[owner] = count
    return found


async def shared_by(dsn: str, count: int, *, seconds: float = 40.0) -> float:
    """Waits until so many workers share the partitions evenly. The seconds it took."""
    started = time.monotonic()
    while True:
        found = await owners(dsn)
        if len(found) == len(PROJECTIONS) and all(
            len(shares) == count and None not in shares and max(shares.values()) - min(shares.values()) <= 1
            for shares in found.values()
        ):
            return time.monotonic() - started
        if time.monotonic() - started > seconds:
            raise AssertionError(f"not shared by {count} after {seconds} s: {found}")
        await asyncio.sleep(0.02)


async def dump(dsn: str) -> dict[str, list[tuple[object, ...]]]:
    """Everything projected, as rows."""
    connection = await asyncpg.connect(dsn)
    try:
        return {name: [tuple(row) for row in await connection.fetch(query)] for name, query in _QUERIES.items()}
    finally:
        await connection.close()


async def feed_matches(dsn: str, histories: Iterable[RoomHistory]) -> None:
    """Asserts that the room feed is exactly the histories, byte for byte."""
    connection = await asyncpg.connect(dsn)
    try:
        for history in histories:
            rows = await connection.fetch(
                "select stream_seq, envelope from proj_room_events where workspace_id = $1 and room_id = $2 order by 1",
                *history.key,
            )
            assert [tuple(row) for row in rows] == [(event.seq, event.envelope) for event in history.events]
    finally:
        await connection.close()


async def until_waiting(connection: asyncpg.Connection, name: str, *, waiting: bool = True) -> None:
    """Returns when a session of that name waits for a lock, or none does any more."""
    count = "select count(*) from pg_stat_activity where application_name = $1 and wait_event_type = 'Lock'"
    async with asyncio.timeout(10):
        while (await connection.fetchval(count, name) > 0) is not waiting:
            await asyncio.sleep(0.05)
            await connection.execute("select pg_stat_clear_snapshot()")
