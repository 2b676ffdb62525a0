"""A broker that cannot write is no fence: the relay says so, and goes on when that has room and was started again."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from deploy.local import EmbeddedNats
from tests.fault.disks import NoSmallDiskError, filled, small_disk
from tests.integration.command.deployment import Client, check_stream, command_service, gauge, load, running
from tests.support.servers import MigratedDatabases, running_nats


def jetstream(store: Path, most: str) -> str:
    return f'jetstream {{ store_dir: "{store}", sync_interval: always, max_file_store: {most} }}'


@contextmanager
def used_all_it_may(folder: Path) -> Iterator[tuple[EmbeddedNats, AbstractContextManager[None]]]:
    with running_nats(jetstream(folder, "64KB")) as nats:

        @contextmanager
        def full() -> Iterator[None]:
            yield
            nats.more = jetstream(folder, "1GB")

        yield nats, full()


@contextmanager
def filled_by_somebody_else(folder: Path) -> Iterator[tuple[EmbeddedNats, AbstractContextManager[None]]]:
    try:
        with small_disk(folder / "disk", 64) as disk, running_nats(jetstream(disk / "store", "1GB")) as nats:
            yield nats, filled(disk)
    except NoSmallDiskError as error:
        pytest.skip(f"a full disk cannot be staged here: {error}")


@pytest.mark.parametrize("disk", [used_all_it_may, filled_by_somebody_else])
async def test_a_broker_whose_disk_is_full_is_no_fence_and_goes_on_when_it_has_room_and_was_started_again(
    disk: Callable[[Path], AbstractContextManager[tuple[EmbeddedNats, AbstractContextManager[None]]]],
    migrated_databases: MigratedDatabases,
    tmp_path: Path,
) -> None:
    dsn = migrated_databases.copy("event_store")
    with disk(tmp_path) as (nats, full):
        service = command_service(tmp_path, dsn, nats.url)
        async with running(service), Client([service], "ws") as client:
            await load(client, 1)
            await check_stream(dsn, nats.url)
            with full:
                await load(client, 40)
                async with asyncio.timeout(20):
                    while "relay_publish_failed" not in service.log_file.read_text():
                        await asyncio.sleep(0.05)
                await load(client, 20)
                await asyncio.to_thread(nats.stop)
            await asyncio.to_thread(nats.start)
            await load(client, 5)
            await check_stream(dsn, nats.url)
            assert await gauge(service, "runroom_relay_fenced_total") == 0
