"""A full disk under the broker, and one under the database: refusals while it lasts, and nothing amiss afterwards."""

import asyncio
import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.local import EmbeddedNats, EmbeddedPostgres
from shared.postgres import migrate
from tests.integration.command.deployment import Client, check_store, check_stream, command_service, running
from tests.support.servers import EVENT_STORE_MIGRATIONS, MigratedDatabases

BLOCK = 1024 * 1024


@contextlib.contextmanager
def small_disk(folder: Path, megabytes: int) -> Iterator[Path]:
    """A file system of this size. Where mounting is not allowed the fault cannot be staged."""
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m,mode=777", "tmpfs", str(folder)], capture_output=True
    )
    if mounted.returncode != 0:
        pytest.skip("a small file system cannot be mounted here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(disk: Path) -> Path:
    """Takes all the space that is left; the file to delete to give it back."""
    ballast = disk / "ballast"
    with contextlib.suppress(OSError), ballast.open("wb", buffering=0) as file:
        while True:
            file.write(b"\0" * BLOCK)
    with contextlib.suppress(OSError), ballast.open("ab", buffering=0) as file:
        while True:
            file.write(b"\0")
    return ballast


async def test_the_brokers_disk_is_full(migrated_databases: MigratedDatabases, tmp_path: Path) -> None:
    dsn = migrated_databases.copy("event_store")
    with small_disk(tmp_path / "disk", 24) as disk:
        nats = EmbeddedNats(disk / "nats")
        await asyncio.to_thread(nats.start)
        try:
            service = command_service(tmp_path, dsn, nats.url)
            async with running(service), Client([service], "ws") as client:
                await client.tell_run("room")
                await check_stream(dsn, nats.url)
                ballast = fill(disk)
                await asyncio.gather(*(client.tell_run(f"room_{number % 5}", steps=5) for number in range(40)))
                ballast.unlink()
                # A broker that once failed to write often refuses until it is started again.
                await asyncio.to_thread(nats.kill)
                await asyncio.to_thread(nats.start)
                await check_store(dsn, client)
                await check_stream(dsn, nats.url)
        finally:
            await asyncio.to_thread(nats.stop)


async def test_the_databases_disk_is_full(nats_url: str, tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 160) as disk:
        postgres = EmbeddedPostgres(disk / "postgres")
        await asyncio.to_thread(postgres.start)
        try:
            dsn = postgres.dsn("event_store")
            await migrate(dsn, EVENT_STORE_MIGRATIONS)
            service = command_service(tmp_path, dsn, nats_url, STORE_TIMEOUT_SECONDS="1")
            async with running(service), Client([service], "ws") as client:
                await client.tell_run("room")
                ballast = fill(disk)
                title = "x" * 900_000
                async with asyncio.timeout(60):
                    while (answer := await client.once("/v1/runs", {"room_id": "big", "title": title})).is_success:
                        pass
                assert (answer.status_code, answer.json()["error"]) == (503, "store_unavailable")
                ballast.unlink()
                if postgres.pid is None:
                    await asyncio.to_thread(postgres.start)
                await client.tell_run("room")
                rooms = [acknowledged for acknowledged in client.acknowledged if acknowledged.room_id == "room"]
                assert sorted(acknowledged.stream_seq for acknowledged in rooms) == list(range(1, len(rooms) + 1))
        finally:
            await asyncio.to_thread(postgres.stop)
