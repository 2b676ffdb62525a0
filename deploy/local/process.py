"""Child processes that die with us and stop when we say so.

Invariant: no child outlives this process, however it ends, and none hears the terminal's Ctrl-C: each lives
in a session of its own behind `guard.py`, so the order of stopping is ours.

The kernel ties a child to the *thread* that started it. Start children from a thread that lives as long as
they should: the main thread, or that of the event loop.
"""

from __future__ import annotations

import functools
import os
import pwd
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO

_GUARD = Path(__file__).with_name("guard.py")
_OVERFLOW_UID = 65534  # what the kernel shows for every uid that a namespace does not know

SAME_IDENTITY = "same"


class LocalError(Exception):
    """Something on this machine keeps the local stack from running; the message is one sentence for its
    user.
    """


def spawn(
    argv: Sequence[str | Path],
    *,
    env: Mapping[str, str],
    output: int | IO[bytes],
    cwd: Path | None = None,
    identity: str = SAME_IDENTITY,
    death_signal: signal.Signals = signal.SIGTERM,
) -> subprocess.Popen[bytes]:
    """Start `argv` (absolute program path first), stdout and stderr both to `output`.

    `death_signal` is what it gets when we are gone. Raises `LocalError` if no process can be started at
    all; a program that cannot be run shows as a child that exits with 127.
    """
    guarded = [sys.executable, "-I", "-S", _GUARD, str(os.getpid()), str(int(death_signal)), identity, *argv]
    try:
        return subprocess.Popen(
            [str(part) for part in guarded],
            env=dict(env),
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    except OSError as error:
        raise LocalError(f"Cannot start {argv[0]}: {error.strerror}.") from error


def run(
    argv: Sequence[str | Path],
    *,
    env: Mapping[str, str],
    cwd: Path | None = None,
    identity: str = SAME_IDENTITY,
) -> tuple[int, str]:
    """Run `argv` to its end behind the guard; its exit code and everything it printed."""
    child = spawn(argv, env=env, output=subprocess.PIPE, cwd=cwd, identity=identity, death_signal=signal.SIGKILL)
    try:
        printed, _ = child.communicate()
    except BaseException:
        child.kill()
        child.wait()
        raise
    return child.returncode, printed.decode(errors="replace").strip()


def stop(child: subprocess.Popen[bytes], *, gently: signal.Signals, grace_s: float) -> None:
    """Send `gently`, wait up to `grace_s` seconds, then kill. Returns once the child is gone and reaped."""
    if child.poll() is None:
        child.send_signal(gently)
        try:
            child.wait(grace_s)
        except subprocess.TimeoutExpired:
            child.kill()
    child.wait()


def wait_until(answers: Callable[[], bool], *, child: subprocess.Popen[bytes], timeout_s: float) -> bool:
    """Poll `answers` until it is true; false when the child ends first or the time is over."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if child.poll() is not None:
            return False
        if answers():
            return True
        time.sleep(0.02)
    return False


@functools.cache
def unprivileged_identity() -> str:
    """The identity under which a server that refuses root can run here.

    Ourselves when we are nobody special; otherwise a user namespace in which we carry an ordinary uid; and
    where those are forbidden (some containers), an unprivileged user of this machine. Raises `LocalError`
    when none works.
    """
    if os.geteuid() != 0 and _has_account(os.geteuid()):
        return SAME_IDENTITY
    ordinary = [entry for entry in pwd.getpwall() if entry.pw_uid not in (0, _OVERFLOW_UID)]
    candidates = [f"namespace:{entry.pw_uid}" for entry in ordinary[:1]]
    if os.geteuid() == 0:
        candidates += [
            f"user:{entry.pw_uid}:{entry.pw_gid}"
            for name in ("postgres", "nobody")
            for entry in pwd.getpwall()
            if entry.pw_name == name
        ]
    for identity in candidates:
        code, _ = run([sys.executable, "-I", "-S", "-c", ""], env={}, identity=identity)
        if code == 0:
            return identity
    raise LocalError(
        "PostgreSQL refuses to run as root, and this machine allows neither a user namespace"
        " nor a change of user; run this as an ordinary user."
    )


def owner_of(identity: str) -> tuple[int, int]:
    """The uid and gid that files of a process with this identity belong to, as seen from here."""
    kind, *numbers = identity.split(":")
    if kind == "user":
        return int(numbers[0]), int(numbers[1])
    return os.geteuid(), os.getegid()


def _has_account(uid: int) -> bool:
    try:
        pwd.getpwuid(uid)
    except KeyError:
        return False
    return True
