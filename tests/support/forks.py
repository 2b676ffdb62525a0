"""Has every `python -m services.…` that a test starts be forked from a process that has imported that service.

Hundreds of them are started, and each would import for a second of processor. What is started stays what it was: a
child of this process, by its own id, in its own environment, ended by any signal. What is not this checkout's service,
or asks for something of the interpreter, is started as ever; so is everything with RUNROOM_TEST_FORKS=0.
"""

from __future__ import annotations

import atexit
import ctypes
import functools
import inspect
import os
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from tests.support.fork_server import INTERPRETER, Order

_PR_SET_CHILD_SUBREAPER = 36
_REPOSITORY = Path(__file__).parents[2]
_SERVICE = re.compile(r"services\.(command|projector|query)")
_GUARD = str(_REPOSITORY / "deploy" / "local" / "guard.py")
_PIPES = ("p2cread", "p2cwrite", "c2pread", "c2pwrite", "errread", "errwrite")
_NEEDED = frozenset({"self", "args", "preexec_fn", "pass_fds", "cwd", "env", "shell", *_PIPES})


def install() -> None:
    """From now on, in this process. Nothing where the kernel or the standard library is another than is known here."""
    start = subprocess.Popen._execute_child  # pyright: ignore[reportAttributeAccessIssue]
    signature = inspect.signature(start)
    if sys.platform != "linux" or os.environ.get("RUNROOM_TEST_FORKS") == "0" or not {*signature.parameters} >= _NEEDED:
        return

    @functools.wraps(start)
    def start_or_fork(*given: Any) -> None:
        asked = signature.bind(*given).arguments
        service, order = _order(asked)
        if order is None:
            start(*given)
            return
        process = asked["self"]
        process.pid = _server(service).fork(order, (asked["p2cread"], asked["c2pwrite"], asked["errwrite"]))
        process._child_created = True
        process._close_pipe_fds(*(asked[name] for name in _PIPES))

    subprocess.Popen._execute_child = start_or_fork  # pyright: ignore[reportAttributeAccessIssue]


class _ForkServer:
    def __init__(self, service: str) -> None:
        self._orders, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._one_at_a_time = threading.Lock()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.support.fork_server", service, str(theirs.fileno())],
                cwd=_REPOSITORY,
                stdin=subprocess.DEVNULL,
                pass_fds=(theirs.fileno(),),
            )
        atexit.register(self._end)

    def fork(self, order: Order, streams: Sequence[int]) -> int:
        """The id of the new process. `streams` are its stdin, stdout and stderr; -1 for those of this process."""
        with self._one_at_a_time:
            # Orphans of the fork server become ours for as long as it takes to make one; others never do.
            _adopt_orphans(True)
            try:
                given = [number if stream == -1 else stream for number, stream in enumerate(streams)]
                socket.send_fds(self._orders, [msgspec.json.encode(order)], given)
                answer = self._orders.recv(64)
            finally:
                _adopt_orphans(False)
        if not answer:
            raise OSError("the fork server has ended")
        return int(answer)

    def _end(self) -> None:
        self._orders.close()
        self._process.wait()


@functools.cache
def _server(service: str) -> _ForkServer:
    return _ForkServer(service)


def _order(asked: Mapping[str, Any]) -> tuple[str, Order | None]:
    """Which service to fork with what, or None where a real start is needed."""
    arguments = [os.fsdecode(part) for part in asked["args"]] if isinstance(asked["args"], list | tuple) else []
    death_signal, guarded = 0, arguments[:4] == [sys.executable, "-I", "-S", _GUARD] and arguments[6:7] == ["same"]
    if guarded:
        death_signal, arguments = int(arguments[5]), arguments[7:]
    environment = dict(os.environ if asked["env"] is None else asked["env"])
    interpreter = {name for name in environment if name.startswith("PYTHON")}
    module = _SERVICE.fullmatch(arguments[2]) if arguments[:2] == [sys.executable, "-m"] and arguments[2:] else None
    if (
        module is None
        or asked["preexec_fn"] is not None
        or asked["pass_fds"]
        or asked["shell"]
        or Path(asked["cwd"] or ".").resolve() != _REPOSITORY
        or not interpreter <= INTERPRETER
        or environment.get("PYTHONWARNINGS", "default") not in {"default", "error"}
    ):
        return "", None
    return module[1], Order(
        parent=os.getpid(),
        arguments=arguments[3:],
        folder=str(_REPOSITORY),
        environment={str(name): str(value) for name, value in environment.items()},
        own_session=bool(asked.get("start_new_session")),
        death_signal=death_signal,
    )


@functools.cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None)


def _adopt_orphans(yes: bool) -> None:
    _libc().prctl(_PR_SET_CHILD_SUBREAPER, int(yes), 0, 0, 0)
