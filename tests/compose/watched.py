"""Rooms that are told and watched while a deployment is worked on, and the accounts of them afterwards.

Invariant checked: clients see nothing worse than a connection that is refused or closed; what was acknowledged is in
the room's stream once, in order; viewers resume by id and miss nothing.
"""

import asyncio
from collections import defaultdict
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import httpx
import msgspec

from tests.contract.stacks import Deployment
from tests.fault.load import Acknowledged, Load
from tests.fault.readers import Reader

CONNECTION_ERRORS = {"ConnectError", "ReadError", "WriteError", "RemoteProtocolError"}
SETTLE_SECONDS = 30.0


@asynccontextmanager
async def told_and_watched(urls: Deployment, workspace_id: str) -> AsyncGenerator[Load]:
    """Goes on as long as the context does; at its end everything is accounted for."""
    rooms = [f"room_{number}" for number in range(6)]
    load = Load([urls.command_url], rooms, workspace_id, 1)
    readers = [Reader([urls.query_url], workspace_id, room, 0) for room in rooms]
    watching = [asyncio.create_task(reader.run()) for reader in readers]
    # With pauses: containers start on the same processors, and would take twice as long.
    loading = asyncio.create_task(load.run(4, pause_seconds=0.1))
    try:
        yield load
        load.stop()
        await loading
        await _check(load, readers, urls.query_url)
    finally:
        for task in (*watching, loading):
            task.cancel()
        await asyncio.gather(*watching, loading, return_exceptions=True)
        await load.close()


def expect_broken_connections_alone(load: Load, *allowed: str) -> None:
    """Whatever had to be sent again was not refused, but for these errors."""
    assert load.asked_again.keys() - CONNECTION_ERRORS <= set(allowed), load.asked_again


async def _check(load: Load, readers: list[Reader], query_url: str) -> None:
    promised: dict[str, list[Acknowledged]] = defaultdict(list)
    for acknowledged in load.acknowledged:
        promised[acknowledged.room_id].append(acknowledged)
    async with asyncio.timeout(SETTLE_SECONDS):
        while any(reader.last_seq < len(promised[reader.room_id]) for reader in readers):
            await asyncio.sleep(0.05)
    for reader in readers:
        seen = [(seq, msgspec.json.decode(data)["event_id"]) for seq, data in reader.seen]
        assert seen == sorted((one.stream_seq, one.event_id) for one in promised[reader.room_id])
        assert [seq for seq, _ in seen] == list(range(1, len(seen) + 1))
        assert reader.resets == 0
    async with httpx.AsyncClient(
        base_url=query_url, headers={"x-workspace-id": load.workspace_id}, timeout=30.0
    ) as http:
        for room_id, events in promised.items():
            last = max(events, key=lambda one: one.stream_seq)
            params = {"min_seq": last.stream_seq, "wait": 20_000}
            run = (await http.get(f"/v1/runs/{last.run_id}", params=params)).json()["run"]
            assert (run["room_id"], run["stream_seq"], run["last_event_id"]) == (
                room_id,
                last.stream_seq,
                last.event_id,
            )
