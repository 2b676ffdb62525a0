"""The stream on three nodes, whose leader dies again and again under load."""

import asyncio
import os
import signal
from pathlib import Path

from tests.fault.cluster import Cluster
from tests.integration.command.deployment import Client, check_store, check_stream, command_service, running
from tests.support.servers import MigratedDatabases


async def test_the_streams_leader_dies_under_load(migrated_databases: MigratedDatabases, tmp_path: Path) -> None:
    dsn = migrated_databases.copy("event_store")
    cluster = Cluster(tmp_path)
    await cluster.start()
    try:
        services = [command_service(tmp_path, dsn, cluster.url, STREAM_REPLICAS="3") for _ in range(2)]
        async with running(*services), Client(services, "ws") as client:
            await client.tell_run("room_0")
            await check_stream(dsn, cluster.url)
            stop = asyncio.Event()
            loading = asyncio.gather(*(keep_telling(client, f"room_{number}", stop) for number in range(8)))
            for number in range(2):
                leader = await cluster.leader()
                if number % 2:
                    assert leader.pid is not None
                    os.kill(leader.pid, signal.SIGSTOP)
                    await asyncio.sleep(4.0)
                    os.kill(leader.pid, signal.SIGCONT)
                else:
                    await asyncio.to_thread(leader.kill)
                    await asyncio.sleep(1.0)
                    await asyncio.to_thread(leader.start)
                await asyncio.sleep(1.0)
            stop.set()
            await loading
            await check_store(dsn, client)
            await check_stream(dsn, cluster.url)
    finally:
        await cluster.stop()


async def keep_telling(client: Client, room_id: str, stop: asyncio.Event) -> None:
    while not stop.is_set():
        await client.tell_run(room_id)
