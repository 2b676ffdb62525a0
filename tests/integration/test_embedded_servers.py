"""The embedded servers keep what they acknowledged, whatever kills them, and never outlive us."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import asyncpg
import nats
import pytest
from nats.js.api import StreamConfig

from deploy.local import EmbeddedNats, EmbeddedPostgres, LocalError
from tests.support.servers import REPOSITORY


async def test_postgres_keeps_committed_rows_over_kill_and_over_stop(fresh_postgres: EmbeddedPostgres) -> None:
    port = fresh_postgres.port
    connection = await asyncpg.connect(fresh_postgres.dsn("event_store"))
    await connection.execute("create table kept (n integer); insert into kept values (1)")
    fresh_postgres.kill()
    assert fresh_postgres.pid is None
    await connection.close(timeout=1) if not connection.is_closed() else None
    fresh_postgres.start()
    fresh_postgres.stop()
    fresh_postgres.start()
    assert fresh_postgres.port == port
    connection = await asyncpg.connect(fresh_postgres.dsn("event_store"))
    assert await connection.fetchval("select n from kept") == 1
    assert await connection.fetchval("show fsync") == "on"
    assert await connection.fetchval("show synchronous_commit") == "on"
    await connection.close()


async def test_postgres_asks_for_its_password(fresh_postgres: EmbeddedPostgres) -> None:
    with pytest.raises(asyncpg.InvalidPasswordError):
        await asyncpg.connect(fresh_postgres.dsn("event_store").replace(":", ":not-", 2).replace("not-", "", 1))
    password = fresh_postgres.data_dir / "password"
    assert password.stat().st_mode & 0o777 == 0o600


def test_postgres_starts_over_a_stale_pid_file_of_somebody_elses_process(fresh_postgres: EmbeddedPostgres) -> None:
    fresh_postgres.stop()
    pid_file = fresh_postgres.data_dir / "cluster" / "postmaster.pid"
    pid_file.write_text(f"{os.getpid()}\n{pid_file.parent}\n0\n1\n\n127.0.0.1\n0 0\nready\n")
    fresh_postgres.start()
    assert fresh_postgres.execute("select 1") == "1"


def test_postgres_creates_its_cluster_again_after_dying_half_way(tmp_path: Path) -> None:
    (tmp_path / "cluster.new").mkdir()
    (tmp_path / "cluster.new" / "PG_VERSION").write_text("18\n")
    server = EmbeddedPostgres(tmp_path)
    server.start()
    server.stop()


def test_a_folder_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for server in (EmbeddedPostgres(tmp_path / "file" / "pg"), EmbeddedNats(tmp_path / "file" / "nats")):
        with pytest.raises(LocalError, match=r"^Cannot write .*\.$"):
            server.start()
        assert server.pid is None


def test_a_taken_port_is_one_sentence(tmp_path: Path, nats_server: EmbeddedNats) -> None:
    for server in (
        EmbeddedPostgres(tmp_path / "pg", nats_server.port),
        EmbeddedNats(tmp_path / "nats", nats_server.port),
    ):
        with pytest.raises(LocalError, match=r"did not start"):
            server.start()
        assert server.pid is None


async def test_nats_keeps_acknowledged_messages_over_kill(fresh_nats: EmbeddedNats) -> None:
    client = await nats.connect(fresh_nats.url)
    stream = client.jetstream()
    await stream.add_stream(StreamConfig(name="KEPT", subjects=["kept"]))
    await stream.publish("kept", b"1")
    await client.close()
    fresh_nats.kill()
    fresh_nats.start()
    client = await nats.connect(fresh_nats.url)
    assert (await client.jetstream().get_last_msg("KEPT", "kept")).data == b"1"
    assert client.max_payload >= 8 * 1024 * 1024
    await client.close()


_OWNER = """
import json, sys, time
from pathlib import Path
from deploy.local import EmbeddedNats, EmbeddedPostgres
servers = [EmbeddedPostgres(Path(sys.argv[1]) / "pg"), EmbeddedNats(Path(sys.argv[1]) / "nats")]
for server in servers:
    server.start()
print(json.dumps([server.pid for server in servers]), flush=True)
time.sleep(60)
"""


def test_servers_die_with_a_killed_owner_and_the_next_owner_takes_over(tmp_path: Path) -> None:
    owner = subprocess.Popen([sys.executable, "-c", _OWNER, tmp_path], stdout=subprocess.PIPE, cwd=REPOSITORY)
    assert owner.stdout is not None
    pids = json.loads(owner.stdout.readline())
    assert all(_is_running(pid) for pid in pids)
    owner.send_signal(signal.SIGKILL)
    owner.wait()
    owner.stdout.close()
    # At once: the orphans may still be on their way out.
    postgres = EmbeddedPostgres(tmp_path / "pg")
    postgres.start()
    postgres.stop()
    deadline = time.monotonic() + 10
    while any(_is_running(pid) for pid in pids):
        assert time.monotonic() < deadline, "a server outlived its owner"
        time.sleep(0.05)


def _is_running(pid: int) -> bool:
    """A zombie that nobody has reaped yet does not count."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
