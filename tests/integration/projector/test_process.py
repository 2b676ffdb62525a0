"""The process as whoever starts it sees it."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from deploy.local import EmbeddedNats, EmbeddedPostgres
from deploy.local.ports import free_port
from tests.integration.projector.workers import Workers, owners, shared_by
from tests.support.servers import REPOSITORY


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "services.projector", *arguments],
        cwd=REPOSITORY,
        env={"PATH": os.environ["PATH"], **environment},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def test_every_fault_of_the_environment_is_reported_at_once() -> None:
    done = run(PROJECTION_DSN="mysql://nobody:secret@nowhere", LEASE_SECONDS="soon")
    assert done.returncode == 1
    assert "EVENT_STORE_DSN is required" in done.stderr
    assert "PROJECTION_DSN is not a URL" in done.stderr
    assert "NATS_URL is required" in done.stderr
    assert "LEASE_SECONDS" in done.stderr
    assert "secret" not in done.stderr


def test_a_taken_port_that_was_asked_for_is_one_sentence() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        done = run(
            EVENT_STORE_DSN="postgresql://x@127.0.0.1:1/x",
            PROJECTION_DSN="postgresql://x@127.0.0.1:1/x",
            NATS_URL="nats://127.0.0.1:1",
            PROJECTOR_PORT=str(taken.getsockname()[1]),
        )
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert "cannot listen on 127.0.0.1" in done.stderr


@pytest.mark.parametrize("host", ["nonsense.invalid", "192.0.2.1"])
@pytest.mark.parametrize("port", ["0", ""])
def test_a_host_that_is_none_of_ours_is_named_with_its_setting(host: str, port: str) -> None:
    done = run(
        EVENT_STORE_DSN="postgresql://x@127.0.0.1:1/x",
        PROJECTION_DSN="postgresql://x@127.0.0.1:1/x",
        NATS_URL="nats://127.0.0.1:1",
        HOST=host,
        PROJECTOR_PORT=port,
    )
    assert done.returncode == 1
    assert done.stderr.startswith(f"HOST is '{host}': ")
    assert len(done.stderr.splitlines()) == 1


def test_migrating_twice_at_the_same_time_is_safe(fresh_postgres: EmbeddedPostgres) -> None:
    environment = {**os.environ, "PROJECTION_DSN": fresh_postgres.dsn("projections")}
    command = [sys.executable, "-m", "services.projector", "migrate"]
    both = [subprocess.Popen(command, cwd=REPOSITORY, env=environment, stderr=subprocess.DEVNULL) for _ in range(2)]
    assert [process.wait(30) for process in both] == [0, 0]
    assert fresh_postgres.execute("select count(*) from proj_runs", database="projections") == "0"


def test_a_database_that_cannot_be_migrated_is_one_sentence(fresh_postgres: EmbeddedPostgres) -> None:
    _, _, place = fresh_postgres.dsn("projections").partition("@")
    for dsn, said in (
        ("postgresql://x@127.0.0.1:1/x", "not migrated: ConnectionRefusedError: "),
        (f"postgresql://runroom_migrate:no@{place}", "not migrated: InvalidPasswordError: "),
    ):
        done = run("migrate", PROJECTION_DSN=dsn)
        assert done.returncode == 1
        assert len(done.stderr.splitlines()) == 1
        assert done.stderr.startswith(said)


async def test_a_worker_takes_nothing_from_the_others_before_nats_lets_it_in(
    event_store_dsn: str, projection_dsn: str, fresh_nats: EmbeddedNats, tmp_path: Path
) -> None:
    fresh_nats.stop()
    workers = Workers(event_store_dsn, projection_dsn, fresh_nats.url, tmp_path)
    try:
        port = free_port()
        workers.start(PROJECTOR_PORT="")
        refused = workers.start(
            PROJECTOR_PORT=str(port), NATS_NKEY_SEED_FILE="", NATS_USER="tester", NATS_PASSWORD="no"
        )
        async with asyncio.timeout(20):
            while workers.log().count("leases_wait_for_broker") < 2:
                await asyncio.sleep(0.05)
        assert await owners(projection_dsn) == {}
        assert await dependencies(port) == {
            "nats": "BrokerUnavailableError",
            "partitions": "none before NATS lets this worker in for the first time",
        }
        fresh_nats.start()
        await shared_by(projection_dsn, 1)
        # Once in, it keeps its share while NATS is away, as everybody does.
        fresh_nats.stop()
        workers.start(PROJECTOR_PORT="")
        async with asyncio.timeout(20):
            while workers.log().count("leases_wait_for_broker") < 3:
                await asyncio.sleep(0.05)
        await shared_by(projection_dsn, 1)
        refused.terminate()
        assert refused.wait(10) == 0
    finally:
        workers.end()


async def dependencies(port: int) -> dict[str, str]:
    """What the worker's readiness says of NATS and of its partitions."""
    async with httpx.AsyncClient(trust_env=False) as http:
        said = (await http.get(f"http://127.0.0.1:{port}/readyz")).json()["dependencies"]
    return {name: said[name]["detail"] for name in ("nats", "partitions")}
