"""`make up` as its user sees it: a block that says where everything is, one sentence when it cannot run, and nothing
left running however it ends.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from deploy.local import EmbeddedNats
from deploy.local.__main__ import asks_for_tokens
from deploy.local.nats import users_and
from deploy.local.ports import free_port
from tests.support.servers import REPOSITORY
from tests.support.tokens import claims, hs256

TIMEOUT = 60.0


class Up:
    """`python -m deploy.local` in a process of its own, on free ports."""

    def __init__(self, data_dir: Path, **variables: str) -> None:
        self.data_dir = data_dir
        self.command_port, self.query_port = free_port(), free_port()
        ports = {
            "COMMAND_PORT": str(self.command_port),
            "QUERY_PORT": str(self.query_port),
            "PROJECTOR_PORT": str(free_port()),
        }
        inherited = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
        self.output = data_dir.with_suffix(".out")
        with self.output.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "deploy.local"],
                env={**inherited, **ports, "DATA_DIR": str(data_dir), **variables},
                cwd=REPOSITORY,
                stdout=output,
                stderr=subprocess.PIPE,
                text=True,
                start_new_session=True,
            )

    def wait_until_up(self) -> None:
        self.wait_for(lambda: "Ctrl-C stops everything" in self.output.read_text())

    def wait_for(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + TIMEOUT
        while not condition():
            assert self.process.poll() is None, self.output.read_text()
            assert time.monotonic() < deadline, self.output.read_text()
            time.sleep(0.05)

    def end(self, number: signal.Signals | None = None) -> tuple[int, str]:
        """Send the signal, if one is given; the exit code and what stands on standard error."""
        if number is not None:
            self.process.send_signal(number)
        _, said = self.process.communicate(timeout=TIMEOUT)
        return self.process.returncode, said

    def children(self) -> list[int]:
        """Everything that runs on this data directory, or was told of it, except the process itself."""
        return [pid for pid in _processes_mentioning(str(self.data_dir)) if pid != self.process.pid]


@pytest.fixture
def up(tmp_path: Path) -> Iterator[Callable[..., Up]]:
    started: list[Up] = []

    def start(name: str = "data", **variables: str) -> Up:
        started.append(Up(tmp_path / name, **variables))
        return started[-1]

    yield start
    for one in started:
        if one.process.poll() is None:
            one.end(signal.SIGTERM)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_run_survives_a_restart_and_nothing_survives_a_stop(up: Callable[..., Up], number: signal.Signals) -> None:
    first = up()
    first.wait_until_up()
    created = httpx.post(f"http://127.0.0.1:{first.command_port}/v1/runs", json={"room_id": "kept"}, trust_env=False)
    assert created.status_code == 201
    assert (first.data_dir / "stack.env").stat().st_mode & 0o777 == 0o600
    assert first.children()
    assert first.end(number) == (0, "")
    assert first.children() == []

    second = up()
    second.wait_until_up()
    answer = created.json()
    run = httpx.get(
        f"http://127.0.0.1:{second.query_port}/v1/runs/{answer['run_id']}",
        params={"min_seq": answer["stream_seq"]},
        trust_env=False,
    )
    assert run.json()["run"]["status"] == "queued"


def test_kill_9_leaves_nothing_running_and_the_next_start_works(up: Callable[..., Up]) -> None:
    first = up(PROJECTOR_WORKERS="2")
    first.wait_until_up()
    first.end(signal.SIGKILL)
    deadline = time.monotonic() + 10
    while left := first.children():
        assert time.monotonic() < deadline, left
        time.sleep(0.05)
    up().wait_until_up()


def test_a_service_that_dies_ends_everything_with_one_sentence(up: Callable[..., Up]) -> None:
    one = up()
    one.wait_until_up()
    projector = next(pid for pid in one.children() if b"services.projector" in _command_line(pid))
    os.kill(projector, signal.SIGKILL)
    code, said = one.end()
    assert code == 1
    assert said.startswith("The projector service was killed by signal 9")
    assert len(said.splitlines()) == 1
    assert one.children() == []


def test_a_second_stack_on_the_same_data_is_refused_and_the_first_goes_on(up: Callable[..., Up]) -> None:
    first = up()
    first.wait_for(lambda: (first.data_dir / "postgres").exists())
    code, said = up().end()
    assert code == 1
    assert said.startswith("A stack is already running on ")
    assert len(said.splitlines()) == 1
    first.wait_until_up()


def test_a_taken_port_is_one_sentence(up: Callable[..., Up]) -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = holder.getsockname()[1]
        one = up(QUERY_PORT=str(port))
        code, said = one.end()
    assert code == 1
    assert said.startswith(f"Port {port} on 127.0.0.1 is taken")
    assert len(said.splitlines()) == 1
    assert one.children() == []


def test_a_folder_that_cannot_be_made_is_one_sentence(up: Callable[..., Up], tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    code, said = up(DATA_DIR=str(tmp_path / "file" / "data")).end()
    assert code == 1
    assert said.startswith("Cannot write to DATA_DIR ")
    assert len(said.splitlines()) == 1


def test_every_bad_number_is_named_at_once(up: Callable[..., Up]) -> None:
    code, said = up(COMMAND_PORT="eight", PROJECTOR_WORKERS="-1").end()
    assert code == 1
    assert [line.split()[0] for line in said.splitlines()] == ["COMMAND_PORT", "PROJECTOR_WORKERS"]


def test_one_more_projector_joins_a_running_stack_and_says_so_when_there_is_none(up: Callable[..., Up]) -> None:
    one = up()
    one.wait_until_up()
    environment = {"DATA_DIR": str(one.data_dir), "PATH": os.environ["PATH"]}
    command = [sys.executable, "-m", "deploy.local", "projector"]
    port = free_port()
    worker = subprocess.Popen(
        command,
        env={**environment, "PROJECTOR_PORT": str(port)},
        cwd=REPOSITORY,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        one.wait_for(lambda: _is_ready(port))
    finally:
        worker.terminate()
        assert worker.wait(TIMEOUT) == 0
    assert one.end(signal.SIGINT)[0] == 0
    refused = subprocess.run(command, env=environment, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert refused.returncode == 1
    assert refused.stderr.startswith("No stack is running on ")


@pytest.fixture
def nats(tmp_path: Path) -> Iterator[EmbeddedNats]:
    """A server that lets nobody in without a password."""
    users, _, _ = users_and("tester").partition("no_auth_user")
    server = EmbeddedNats(tmp_path / "nats", users=users)
    server.start()
    yield server
    server.stop()


def test_the_stack_file_says_who_we_are_to_a_nats_of_our_own(
    up: Callable[..., Up], nats: EmbeddedNats, tmp_path: Path
) -> None:
    password = tmp_path / "password"
    password.write_text("tester")
    one = up(NATS_URL=nats.url, NATS_USER="tester", NATS_PASSWORD_FILE=str(password))
    one.wait_until_up()
    typed = f"set -a; . {one.data_dir}/stack.env; exec {sys.executable} -m services.projector verify"
    verified = subprocess.run(
        ["sh", "-c", typed],
        env={"PATH": os.environ["PATH"]},
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (verified.returncode, "all is well" in verified.stdout) == (0, True), verified.stderr
    assert one.end(signal.SIGINT)[0] == 0


def test_the_demo_tells_a_whole_run_and_says_so_when_nothing_is_up(up: Callable[..., Up]) -> None:
    one = up()
    one.wait_until_up()
    environment = {
        "PATH": os.environ["PATH"],
        "COMMAND_PORT": str(one.command_port),
        "QUERY_URL": f"http://127.0.0.1:{one.query_port}",
    }
    command = [sys.executable, "-m", "deploy.demo"]
    told = subprocess.run(command, env=environment, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert (told.returncode, told.stderr) == (0, "")
    kinds = ["run.created", "run.started", "step.created", "step.created", "step.created", "run.completed"]
    numbered = [line.split()[:2] for line in told.stdout.splitlines() if line.strip()[:1].isdigit()]
    assert numbered == [[str(seq), kind] for seq, kind in enumerate(kinds, 1)]
    assert "succeeded" in told.stdout
    assert one.end(signal.SIGTERM)[0] == 0
    told = subprocess.run(command, env=environment, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert told.returncode == 1
    assert told.stderr.startswith("Nothing answers at ")
    assert len(told.stderr.splitlines()) == 1


def test_what_it_says_to_try_works_with_tokens_and_without(up: Callable[..., Up]) -> None:
    secret = "s" * 32
    for name, variables in (("open", {}), ("guarded", {"AUTH_JWT_SECRET": secret})):
        one = up(name, **variables)
        one.wait_until_up()
        lines = [line.strip() for line in one.output.read_text().splitlines() if line.strip().startswith("curl ")]
        assert len(lines) == 2
        environment = {"PATH": os.environ["PATH"], "TOKEN": hs256(secret.encode(), claims())}
        for line, expected in zip(lines, ("201", "200"), strict=True):
            assert ("$TOKEN" in line) == bool(variables)
            # A stream goes on until curl is told to end, its head read by then.
            asked = subprocess.run(
                ["/bin/sh", "-c", f"{line} -i -s -m 2"], env=environment, capture_output=True, text=True, check=False
            )
            assert asked.stdout.split()[1] == expected, asked.stdout
        assert one.end(signal.SIGTERM)[0] == 0


@pytest.mark.parametrize("name", ["AUTH_JWT_SECRET", "AUTH_JWT_SECRET_FILE", "AUTH_JWKS"])
def test_tokens_are_asked_for_with_any_kind_of_key(name: str) -> None:
    assert asks_for_tokens({name: "x"})
    assert not asks_for_tokens({name: " ", "AUTH_ISSUER": "x"})


def _is_ready(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/readyz", trust_env=False).status_code == 200
    except httpx.TransportError:
        return False


def _command_line(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def _processes_mentioning(text: str) -> list[int]:
    """Live processes whose command line, environment or working directory contains `text`."""
    found: list[int] = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            known = (entry / "cmdline").read_bytes() + (entry / "environ").read_bytes()
            place = str((entry / "cwd").readlink())
        except OSError:
            continue  # gone, a zombie, or somebody else's
        if text.encode() in known or place.startswith(text):
            found.append(int(entry.name))
    return found
