"""The demo finds the stack that runs here, unless it is told of another."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.demo import addresses
from deploy.local.stack import STACK_FILE

ELSEWHERE = "http://127.0.0.1:9001", "http://127.0.0.1:9002"
BY_DEFAULT = "http://127.0.0.1:8001", "http://127.0.0.1:8002"


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Path]:
    """What a stack on other ports has in its folder for as long as it runs."""
    (tmp_path / STACK_FILE).write_text(f"COMMAND_URL={ELSEWHERE[0]}\nQUERY_URL={ELSEWHERE[1]}\n")
    with (tmp_path / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield tmp_path


def test_it_finds_the_stack_that_runs_here(running: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert addresses({"DATA_DIR": str(running)}) == ELSEWHERE
    (running / ".data").symlink_to(running)
    monkeypatch.chdir(running)
    assert addresses({}) == ELSEWHERE


def test_what_it_is_told_comes_first(running: Path) -> None:
    told = {"DATA_DIR": str(running), "COMMAND_URL": "https://runroom.example", "QUERY_PORT": "80"}
    assert addresses(told) == ("https://runroom.example", "http://127.0.0.1:80")


def test_one_that_has_ended_is_none(tmp_path: Path) -> None:
    assert addresses({"DATA_DIR": str(tmp_path)}) == BY_DEFAULT
    (tmp_path / "lock").touch()
    (tmp_path / STACK_FILE).write_text(f"COMMAND_URL={ELSEWHERE[0]}\n")
    assert addresses({"DATA_DIR": str(tmp_path)}) == BY_DEFAULT
