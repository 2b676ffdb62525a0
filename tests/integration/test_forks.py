"""What tests start by fork is what they would start by its name: `tests/support/forks.py`."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.servers import REPOSITORY


def start(*arguments: str, **environment: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "services.projector", *arguments],
        cwd=REPOSITORY,
        env={"PATH": os.environ["PATH"], **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def is_forked(process: subprocess.Popen[bytes]) -> bool:
    return b"fork_server" in Path(f"/proc/{process.pid}/cmdline").read_bytes()


@pytest.mark.parametrize("arguments", [("nonsense",), ("migrate",), ()])
def test_says_and_ends_like_one_that_was_started_by_its_name(arguments: tuple[str, ...]) -> None:
    # How it hashes is set when an interpreter starts, so the other one is no fork.
    ended = []
    for process in (start(*arguments), start(*arguments, PYTHONHASHSEED="0")):
        out, err = process.communicate(timeout=60)
        ended.append((process.returncode, out, err))
    assert ended[0] == ended[1]
    assert ended[0][0] in {1, 2}


def test_is_a_child_of_its_own_that_a_signal_ends() -> None:
    one, other = (
        start(
            EVENT_STORE_DSN="postgresql://nobody@127.0.0.1:9/none",
            PROJECTION_DSN="postgresql://nobody@127.0.0.1:9/none",
            NATS_URL="nats://127.0.0.1:9",
            PROJECTOR_PORT="0",
        )
        for _ in range(2)
    )
    try:
        assert is_forked(one)
        assert one.pid != other.pid
        stat = Path(f"/proc/{one.pid}/stat").read_text()
        assert int(stat.rpartition(") ")[2].split()[1]) == os.getpid()
        one.kill()
        assert one.wait(20) == -signal.SIGKILL
        assert other.poll() is None
        other.terminate()
        other.communicate(timeout=30)
        assert other.returncode in {0, -signal.SIGTERM}  # whether or not it had come to listening for it
    finally:
        for process in (one, other):
            if process.poll() is None:
                process.kill()
            process.communicate()
