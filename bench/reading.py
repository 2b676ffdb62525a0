"""Reads that go on while something else is measured: single runs and pages of fifty, none of which may fail."""

import asyncio
import contextlib
import itertools
from collections.abc import AsyncGenerator

from bench.load.http import connect, get

_CALLERS = 4
_PAUSE_SECONDS = 0.02


@contextlib.asynccontextmanager
async def going_on(port: int, run_ids: list[str], workspace_id: str = "bench") -> AsyncGenerator[None, None]:
    """Raises ``AssertionError`` when a read was answered with anything but 200 and what was asked for."""
    reads = itertools.cycle(
        [
            *[(get(f"/v1/runs/{run_id}", workspace_id), f'"run_id":"{run_id}"'.encode()) for run_id in run_ids],
            (get("/v1/runs?limit=50", workspace_id), b'"next_cursor":"'),
        ]
    )
    over = asyncio.Event()

    async def read() -> int:
        connection = await connect(port)
        done = 0
        while not over.is_set():
            request, expected = next(reads)
            answer = await connection.send(request)
            assert answer.status == 200, f"a read was answered {answer.status}: {answer.body[:200]!r}"
            assert expected in answer.body, f"{expected!r} is not in {answer.body[:200]!r}"
            done += 1
            await asyncio.sleep(_PAUSE_SECONDS)
        connection.close()
        return done

    async with asyncio.TaskGroup() as tasks:
        readers = [tasks.create_task(read()) for _ in range(_CALLERS)]
        try:
            yield
        finally:
            over.set()
    assert all(reader.result() for reader in readers), "nobody read anything"
