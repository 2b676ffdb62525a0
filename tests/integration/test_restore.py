"""Backing up and bringing back, step by step as docs/operations.md says."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from deploy.local.ports import free_port
from deploy.local.postgres import EmbeddedPostgres, binary
from deploy.local.process import run
from deploy.local.service import Service
from deploy.local.settings import LocalSettings
from deploy.local.stack import LocalStack
from tests.fault.readers import Reader
from tests.support.manual import typed, up_to
from tests.support.servers import REPOSITORY, as_role, running_postgres

ROOMS = [f"room_{number}" for number in range(5)]
DEADLINE = 60.0


class Deployment:
    """A local stack, and the programs an operator has."""

    def __init__(self, data_dir: Path) -> None:
        self.data_dir = data_dir
        self.stack = LocalStack(LocalSettings(data_dir=data_dir))

    def tell(self, room_id: str) -> dict[str, str | int]:
        """A whole run; what its last command was answered."""
        with httpx.Client(base_url=self.stack.command_url) as http:
            run_id = http.post("/v1/runs", json={"room_id": room_id, "tags": ["told"]}).json()["run_id"]
            for path, body in (("start", {}), ("steps", {"kind": "tool"}), ("complete", {"summary": "done"})):
                answer = http.post(f"/v1/runs/{run_id}/{path}", json=body)
                assert answer.is_success, answer.text
        return answer.json()

    def read(self, run_id: str, min_seq: int) -> httpx.Response:
        return httpx.get(
            f"{self.stack.query_url}/v1/runs/{run_id}", params={"min_seq": min_seq, "wait": 30_000}, timeout=40
        )

    def frames(self, room_id: str, from_seq: int, end: str) -> list[str]:
        """The lines of the room's stream up to the one that begins with ``end``."""
        url = f"{self.stack.query_url}/v1/streams/rooms/{room_id}"
        lines: list[str] = []
        with httpx.stream("GET", url, params={"from_seq": from_seq}, timeout=20) as response:
            for line in response.iter_lines():
                lines.append(line)
                if line.startswith(end):
                    return lines
        raise AssertionError(f"no {end!r} in {lines}")

    def verify(self) -> str:
        """What ``verify`` says, once all is well."""
        environment = {**self.stack.addresses("projector"), "PATH": "/usr/bin:/bin", "LOG_FORMAT": "json"}
        deadline = time.monotonic() + DEADLINE
        while True:
            code, said = run(
                (sys.executable, "-m", "services.projector", "verify"),
                env=environment,
                cwd=REPOSITORY,
            )
            if code == 0:
                return said
            assert time.monotonic() < deadline, said
            time.sleep(0.5)

    @contextmanager
    def servers_alone(self) -> Iterator[EmbeddedPostgres]:
        """PostgreSQL without the services."""
        postgres = EmbeddedPostgres(self.data_dir / "postgres")
        postgres.start()
        try:
            yield postgres
        finally:
            postgres.stop()


def program(name: str, *arguments: str) -> None:
    done = subprocess.run([binary(name), *arguments], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


def bring_back(store: EmbeddedPostgres, projections: EmbeddedPostgres, dump: Path, *, part: str = "") -> None:
    """Store and projections, as the manual has it typed for programs of PostgreSQL; up to the command with ``part``."""
    script = typed("Bring it back", "pg_restore --file").replace("event_store.dump", str(dump))
    script = up_to(script, part) if part else script
    done = subprocess.run(
        ["sh", "-c", script],
        cwd=REPOSITORY,
        env={
            "PATH": os.pathsep.join([str(binary("psql").parent), str(Path(sys.executable).parent), os.defpath]),
            "EVENT_STORE_SUPERUSER_DSN": store.dsn("postgres"),
            "PROJECTION_SUPERUSER_DSN": projections.dsn("postgres"),
            "EVENT_STORE_OWNER_DSN": store.dsn("event_store", "runroom_migrate"),
            "PROJECTION_OWNER_DSN": projections.dsn("projections", "runroom_migrate"),
        },
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def make_databases(postgres: EmbeddedPostgres) -> None:
    program("psql", "--quiet", f"--file={REPOSITORY}/deploy/postgres/databases.sql", postgres.dsn("postgres"))


@pytest.fixture
def deployment(tmp_path: Path) -> Iterator[Deployment]:
    deployment = Deployment(tmp_path / "data")
    deployment.stack.start()
    try:
        yield deployment
    finally:
        deployment.stack.stop()


def test_an_event_store_from_a_backup_stream_and_projections_made_anew(deployment: Deployment, tmp_path: Path) -> None:
    dump = tmp_path / "event_store.dump"
    kept = [deployment.tell(room) for room in ROOMS]
    assert deployment.stack.postgres is not None
    owner = deployment.stack.addresses("migrate")["EVENT_STORE_DSN"]
    program("pg_dump", "--format=custom", f"--file={dump}", owner)
    lost = [deployment.tell(room) for room in ROOMS]
    deployment.verify()
    deployment.stack.stop()

    with deployment.servers_alone() as postgres:
        bring_back(postgres, postgres, dump)
    shutil.rmtree(deployment.data_dir / "nats" / "jetstream")
    deployment.stack.start()

    for answer in kept:
        found = deployment.read(str(answer["run_id"]), int(answer["stream_seq"]))
        assert found.json()["run"]["status"] == "succeeded"
    for answer in lost:
        assert deployment.read(str(answer["run_id"]), 0).status_code == 404
    again = [deployment.tell(room) for room in ROOMS]
    assert [answer["stream_seq"] for answer in again] == [answer["stream_seq"] for answer in lost], "the numbers go on"
    for answer in again:
        found = deployment.read(str(answer["run_id"]), int(answer["stream_seq"]))
        assert found.json()["run"]["status"] == "succeeded"
    assert "all is well" in deployment.verify()
    # Who had seen more than there is now is told so, and follows on.
    lines = deployment.frames(ROOMS[0], 100, "event: caught-up")
    assert "event: reset" in lines
    assert [line for line in deployment.frames(ROOMS[0], 0, "id: 8") if line.startswith("id: ")] == [
        f"id: {seq}" for seq in range(1, 9)
    ]


async def test_viewers_are_told_of_what_was_lost_before_their_room_grows_past_their_cursor(
    deployment: Deployment, tmp_path: Path
) -> None:
    """The steps of the manual in their order, with a command service that nobody reaches until the last of them."""
    stack, (room, *_) = deployment.stack, ROOMS
    dump = tmp_path / "event_store.dump"
    deployment.tell(room)
    program("pg_dump", "--format=custom", f"--file={dump}", stack.addresses("migrate")["EVENT_STORE_DSN"])
    for _ in range(2):
        deployment.tell(room)
    reader = Reader([stack.query_url], "ws_dev", room, 0)
    watching = asyncio.create_task(reader.run())
    async with asyncio.timeout(DEADLINE):
        while reader.last_seq < 12:
            await asyncio.sleep(0.05)
    assert stack.postgres is not None
    assert stack.nats is not None
    assert stack.command is not None
    assert stack.query is not None
    (projector,) = stack.projectors
    for service in stack.services:
        service.stop()
    bring_back(stack.postgres, stack.postgres, dump)
    stack.nats.stop()
    shutil.rmtree(stack.nats.data_dir / "jetstream")
    stack.nats.start()

    port = free_port()
    environment = {**os.environ, **stack.addresses("command"), "COMMAND_PORT": str(port)}
    relay = Service("relay", "services.command", port, env=environment, log_file=tmp_path / "relay.log")
    try:
        for service in (relay, projector):
            service.start()
            service.wait_until_ready()
        async with asyncio.timeout(DEADLINE):
            while "room_feed 0, runs 0" not in (said := deployment.verify()):
                await asyncio.sleep(0.05)
        assert "0 events not yet published" in said
        stack.query.start()
        async with asyncio.timeout(DEADLINE):
            while reader.resets == 0:
                await asyncio.sleep(0.05)
        stack.command.start()
        stack.command.wait_until_ready()
    finally:
        relay.stop()
    for _ in range(3):
        deployment.tell(room)
    async with asyncio.timeout(DEADLINE):
        while reader.last_seq < 16:
            await asyncio.sleep(0.05)
    watching.cancel()
    assert [seq for seq, _ in reader.seen] == [*range(1, 13), *range(5, 17)]
    assert reader.resets == 1


def test_projections_on_another_server_and_a_dump_that_is_not_whole(
    fresh_postgres: EmbeddedPostgres, tmp_path: Path
) -> None:
    dump = tmp_path / "event_store.dump"
    with running_postgres() as projections:
        environment = {"PATH": os.defpath, "EVENT_STORE_DSN": fresh_postgres.dsn("event_store", "runroom_migrate")}
        code, said = run((sys.executable, "-m", "services.command", "migrate"), env=environment, cwd=REPOSITORY)
        assert code == 0, said
        fresh_postgres.execute("insert into rooms (workspace_id, room_id) values ('w', 'kept')", database="event_store")
        program("pg_dump", "--format=custom", f"--file={dump}", fresh_postgres.dsn("event_store"))
        whole = dump.read_bytes()
        dump.write_bytes(whole[:-1000])
        with pytest.raises(AssertionError, match="pg_restore: error"):
            bring_back(fresh_postgres, projections, dump)
        assert fresh_postgres.execute("select room_id from rooms", database="event_store") == "kept"
        dump.write_bytes(whole)
        for part in (
            "database if exists event_store",
            "database if exists projections",
            "pg_restore --exit",
            "command",
        ):
            bring_back(fresh_postgres, projections, dump, part=part)
        projections.execute("drop database projections")
        bring_back(fresh_postgres, projections, dump)
        assert fresh_postgres.execute("select room_id from rooms", database="event_store") == "kept"
        assert projections.execute("select count(*) from proj_runs", database="projections") == "0"


def test_a_folder_that_was_copied_away(deployment: Deployment, tmp_path: Path) -> None:
    """As the manual has it for `make up`."""
    kept = [deployment.tell(room) for room in ROOMS]
    deployment.stack.stop()
    data, copy = deployment.data_dir / "postgres", tmp_path / "copy"
    subprocess.run(["cp", "-a", data, copy], check=True, timeout=60)
    deployment.stack.start()
    lost = [deployment.tell(room) for room in ROOMS]
    deployment.stack.stop()
    shutil.rmtree(data)
    shutil.rmtree(deployment.data_dir / "nats")
    subprocess.run(["cp", "-a", copy, data], check=True, timeout=60)
    deployment.stack.start()
    for answer in kept:
        found = deployment.read(str(answer["run_id"]), int(answer["stream_seq"]))
        assert found.json()["run"]["status"] == "succeeded"
    again = [deployment.tell(room) for room in ROOMS]
    assert [answer["stream_seq"] for answer in again] == [answer["stream_seq"] for answer in lost]
    assert "all is well" in deployment.verify()


def test_projections_alone(deployment: Deployment) -> None:
    kept = [deployment.tell(room) for room in ROOMS]
    deployment.stack.stop()
    with deployment.servers_alone() as postgres:
        program("psql", "--quiet", "--command=drop database projections", postgres.dsn("postgres"))
        make_databases(postgres)
    deployment.stack.start()
    for answer in kept:
        found = deployment.read(str(answer["run_id"]), int(answer["stream_seq"]))
        assert found.json()["run"]["status"] == "succeeded"
    deployment.verify()


def test_a_stream_alone(deployment: Deployment) -> None:
    for room in ROOMS:
        deployment.tell(room)
    deployment.stack.stop()
    shutil.rmtree(deployment.data_dir / "nats" / "jetstream")
    deployment.stack.start()
    again = [deployment.tell(room) for room in ROOMS]
    assert [line for line in deployment.frames(ROOMS[0], 0, "id: 8") if line.startswith("id: ")] == [
        f"id: {seq}" for seq in range(1, 9)
    ]
    assert deployment.read(str(again[0]["run_id"]), 8).json()["run"]["status"] == "succeeded"
    deployment.verify()


def test_a_store_from_a_backup_beside_the_stream_of_before_is_told_of(deployment: Deployment, tmp_path: Path) -> None:
    """The mistake that the manual warns of: nothing is published of rooms that the stream knows otherwise."""
    dump = tmp_path / "event_store.dump"
    deployment.tell(ROOMS[0])
    program("pg_dump", "--format=custom", f"--file={dump}", deployment.stack.addresses("migrate")["EVENT_STORE_DSN"])
    deployment.tell(ROOMS[0])
    deployment.stack.stop()
    with deployment.servers_alone() as postgres:
        program("psql", "--quiet", "--command=drop database event_store", postgres.dsn("postgres"))
        make_databases(postgres)
        owner = postgres.dsn("event_store", "runroom_migrate")
        program("pg_restore", "--exit-on-error", "--no-owner", "--no-privileges", f"--dbname={owner}", str(dump))
    deployment.stack.start()
    deployment.tell(ROOMS[0])
    deployment.tell(ROOMS[1])
    deadline = time.monotonic() + DEADLINE
    while "runroom_relay_stranger_rooms 1.0" not in httpx.get(f"{deployment.stack.command_url}/metrics").text:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert deployment.frames(ROOMS[1], 0, "id: 4"), "other rooms go on"


def test_a_dump_is_for_nobody_else_to_read(tmp_path: Path, event_store_dsn: str) -> None:
    script = typed("Back it up", "umask 077").split("\n\n")[0]
    environment = {"PATH": os.pathsep.join([str(binary("pg_dump").parent), os.defpath])}
    environment["EVENT_STORE_OWNER_DSN"] = as_role(event_store_dsn, "runroom_migrate")
    subprocess.run(["sh", "-e", "-c", script], cwd=tmp_path, env=environment, check=True, timeout=60)
    assert (tmp_path / "event_store.dump").stat().st_mode & 0o777 == 0o600
    ignored = (REPOSITORY / ".gitignore").read_text().splitlines()
    assert "*.dump" in ignored
