"""The relay: whatever dies or comes back older, the stream ends up equal to the store."""

import asyncio
import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from deploy.local import EmbeddedNats
from deploy.local.service import Service
from tests.integration.command.deployment import Client, check_store, check_stream, command_service, running
from tests.support.servers import MigratedDatabases, running_nats


@pytest.fixture
def dsn(migrated_databases: MigratedDatabases) -> str:
    return migrated_databases.copy("event_store")


@pytest.fixture
def nats() -> Iterator[EmbeddedNats]:
    with running_nats() as server:
        yield server


async def load(client: Client, runs: int = 20, steps: int = 3) -> None:
    await asyncio.gather(*(client.tell_run(f"room_{number % 5}", steps) for number in range(runs)))


async def test_commands_go_on_without_the_broker_and_the_stream_catches_up(
    dsn: str, nats: EmbeddedNats, tmp_path: Path
) -> None:
    service = command_service(tmp_path, dsn, nats.url)
    async with running(service), Client([service], "ws") as client:
        await load(client, 5)
        await asyncio.to_thread(nats.kill)
        await load(client)
        assert service.is_ready()
        await asyncio.to_thread(nats.start)
        await load(client, 5)
        await check_store(dsn, client)
        assert await check_stream(dsn, nats.url) == 0


async def test_a_service_that_starts_without_a_broker_publishes_once_there_is_one(
    dsn: str, nats: EmbeddedNats, tmp_path: Path
) -> None:
    await asyncio.to_thread(nats.stop)
    service = command_service(tmp_path, dsn, nats.url)
    async with running(service), Client([service], "ws") as client:
        await load(client, 5)
        await asyncio.to_thread(nats.start)
        await check_stream(dsn, nats.url)


async def test_a_broker_killed_under_load(dsn: str, nats: EmbeddedNats, tmp_path: Path) -> None:
    service = command_service(tmp_path, dsn, nats.url)
    async with running(service), Client([service], "ws") as client:
        loading = asyncio.create_task(load(client, 60))
        for _ in range(3):
            await asyncio.sleep(0.3)
            await asyncio.to_thread(nats.kill)
            await asyncio.to_thread(nats.start)
        await loading
        await check_store(dsn, client)
        assert await check_stream(dsn, nats.url) == 0


async def test_a_leader_killed_under_load_is_taken_over_from(dsn: str, nats: EmbeddedNats, tmp_path: Path) -> None:
    first, second = services = [command_service(tmp_path, dsn, nats.url) for _ in range(2)]
    async with running(*services), Client(services, "ws") as client:
        loading = asyncio.create_task(load(client, 60))
        for service in (first, second, first):
            await asyncio.sleep(0.3)
            await asyncio.to_thread(service.kill)
            service.start()
            await asyncio.to_thread(service.wait_until_ready)
        await loading
        await check_store(dsn, client)
        await check_stream(dsn, nats.url)


async def test_a_leader_that_stands_still_is_taken_over_from_and_does_no_harm_when_it_wakes(
    dsn: str, nats: EmbeddedNats, tmp_path: Path
) -> None:
    services = [command_service(tmp_path, dsn, nats.url) for _ in range(2)]
    async with running(*services):
        leader = await the_leader(services)
        other = services[1 - services.index(leader)]
        async with Client([leader], "ws") as client:
            loading = asyncio.create_task(load(client, 20))
            await asyncio.sleep(0.3)
            assert leader.pid is not None
            os.kill(leader.pid, signal.SIGSTOP)
            try:
                async with Client([other], "meanwhile") as another:
                    await load(another, 5)
                    await check_stream(dsn, nats.url)
                    assert await the_leader([other]) is other
            finally:
                os.kill(leader.pid, signal.SIGCONT)
            await loading
            await check_store(dsn, client)
        await check_stream(dsn, nats.url)


async def test_a_broker_that_comes_back_empty_is_filled_again(dsn: str, nats: EmbeddedNats, tmp_path: Path) -> None:
    service = command_service(tmp_path, dsn, nats.url)
    async with running(service), Client([service], "ws") as client:
        await load(client, 10)
        await check_stream(dsn, nats.url)
        await asyncio.to_thread(nats.stop)
        shutil.rmtree(nats.data_dir / "jetstream")
        await asyncio.to_thread(nats.start)
        await load(client, 5)
        await check_stream(dsn, nats.url)


@pytest.mark.parametrize("while_away", [False, True])
async def test_a_broker_that_comes_back_older_is_filled_up_and_marked(
    dsn: str, nats: EmbeddedNats, tmp_path: Path, *, while_away: bool
) -> None:
    store, copy = nats.data_dir / "jetstream", tmp_path / "older"
    service = command_service(tmp_path, dsn, nats.url)
    async with running(service), Client([service], "ws") as client:
        await load(client, 10)
        await check_stream(dsn, nats.url)
        await asyncio.to_thread(nats.stop)
        shutil.copytree(store, copy)
        await asyncio.to_thread(nats.start)
        await load(client, 10)
        await check_stream(dsn, nats.url)
        if while_away:  # the relay finds out at its next start, not at a reconnect
            await asyncio.to_thread(service.stop)
        await asyncio.to_thread(nats.kill)
        shutil.rmtree(store)
        shutil.copytree(copy, store)
        await asyncio.to_thread(nats.start)
        if while_away:
            service.start()
            await asyncio.to_thread(service.wait_until_ready)
        await load(client, 5)
        assert await check_stream(dsn, nats.url) == 1


async def the_leader(services: list[Service]) -> Service:
    async with httpx.AsyncClient() as http, asyncio.timeout(10):
        while True:
            for service in services:
                metrics = (await http.get(f"{service.url}/metrics")).text
                if "runroom_relay_leader 1.0" in metrics:
                    return service
            await asyncio.sleep(0.05)
