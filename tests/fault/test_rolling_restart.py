"""Every service restarted under load, one after another, by SIGTERM: a release, or a node that is drained."""

import asyncio
from pathlib import Path

from tests.fault.accounts import balance, settle
from tests.fault.load import Load
from tests.fault.plant import running_plant
from tests.fault.readers import Reader

# The port is closed; or an idle connection was, at the very moment the client used it again. Nothing was done then,
# and with its key the command is sent again.
HARMLESS = {"ConnectError", "RemoteProtocolError", "ReadError", "WriteError"}


async def test_nothing_fails_but_connections(tmp_path: Path) -> None:
    async with running_plant(tmp_path) as plant:
        rooms = [f"room_{number}" for number in range(8)]
        load = Load(plant.command_urls, rooms, "rolling", 1)
        readers = [Reader(plant.query_urls, "rolling", room, number) for number, room in enumerate(rooms)]
        tasks = [asyncio.create_task(reader.run()) for reader in readers]
        loading = asyncio.create_task(load.run(6))
        try:
            for service in plant.services:
                await asyncio.sleep(0.5)
                assert service.pid is not None
                await asyncio.to_thread(service.stop)
                service.start()
                await asyncio.to_thread(service.wait_until_ready)
            load.stop()
            await loading
            assert load.asked_again.keys() <= HARMLESS, load.asked_again
            await settle(plant, load, readers)
            accounts = await balance(plant, load, readers)
            assert accounts.balanced, accounts
        finally:
            for task in (*tasks, loading):
                task.cancel()
            await asyncio.gather(*tasks, loading, return_exceptions=True)
            await load.close()
