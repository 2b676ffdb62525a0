"""Rooms that are written to and read through the views, while something is done to the projections."""

from __future__ import annotations

import asyncio

import asyncpg

from services.projector.rebuild.tables import VIEWS
from tests.integration.projector.history import RoomHistory, publish, store
from tests.support.servers import as_role


class Load:
    """Rooms written to, and read through the views, until ``stop``."""

    def __init__(
        self, histories: list[RoomHistory], event_store_dsn: str, projection_dsn: str, stream_url: str
    ) -> None:
        self.histories = histories
        self.reads = 0
        self._stopped = False
        self._tasks = [
            asyncio.create_task(self._write(event_store_dsn, stream_url)),
            asyncio.create_task(self._read(as_role(projection_dsn, "runroom_query"))),
        ]

    async def stop(self) -> None:
        self._stopped = True
        await asyncio.gather(*self._tasks)

    async def _write(self, dsn: str, url: str) -> None:
        while not self._stopped:
            events = [event for history in self.histories for event in history.run(steps=1)]
            await store(dsn, events)
            await publish(url, events)
            await asyncio.sleep(0.1)

    async def _read(self, dsn: str) -> None:
        connection = await asyncpg.connect(dsn)
        before: dict[tuple[str, str], int] = {}
        while not self._stopped:
            rows = await connection.fetch(
                """select 'applied ' || projection as kind, room_id, applied_seq as seq from proj_applied
                union all select 'run', room_id, max(stream_seq) from proj_runs group by 2
                union all select 'event', room_id, max(stream_seq) from proj_room_events group by 2"""
            )
            after = {(row["kind"], row["room_id"]): row["seq"] for row in rows}
            for place, seq in before.items():
                assert after.get(place, 0) >= seq, f"{place} went back from {seq} to {after.get(place)}"
            before = after
            self.reads += 1
        await connection.close()


async def applied_by_active(dsn: str, histories: list[RoomHistory]) -> None:
    expected = {(name, history.key.room_id, history.head) for name in VIEWS for history in histories}
    connection = await asyncpg.connect(dsn)
    try:
        async with asyncio.timeout(20):
            while expected - {
                tuple(row)
                for row in await connection.fetch("select projection, room_id, applied_seq from proj_applied")
            }:
                await asyncio.sleep(0.05)
    finally:
        await connection.close()
