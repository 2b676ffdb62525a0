"""Imports one service and becomes it, by fork, as often as it is asked to: nine tenths of a start are its imports.

Started by `forks.py` as ``python -m tests.support.fork_server <service> <descriptor of a socket>``. Invariant: what is
forked is what ``python -m services.<service>`` would be in the same environment, and a child of the one who asked.
"""

from __future__ import annotations

import ctypes
import gc
import importlib
import io
import os
import runpy
import socket
import sys
import time
import warnings
from collections.abc import Callable
from typing import Any

import msgspec

INTERPRETER = frozenset({"PYTHONDONTWRITEBYTECODE", "PYTHONUNBUFFERED", "PYTHONWARNINGS"})
"""Variables by which something is asked of the interpreter that a fork can do as well."""

_PR_SET_PDEATHSIG = 1
_STREAMS = 3
_MOST_BYTES = 1 << 17


class Order(msgspec.Struct, frozen=True):
    """What to become. stdin, stdout and stderr come beside it, as descriptors."""

    parent: int
    arguments: list[str]
    folder: str
    environment: dict[str, str]
    own_session: bool
    death_signal: int
    """Sent by the kernel when `parent` is gone; 0 for none."""


def serve(service: str, asked: socket.socket) -> Callable[[], None] | None:
    """Forks for each order and answers with the new process's id. Returns in a fork, with what is left to do there, and
    at the end, with None.
    """
    program = importlib.import_module(f"services.{service}.__main__").__package__
    del sys.modules[f"services.{service}.__main__"]  # which is run, not imported
    gc.freeze()  # nothing that all share is looked at, and thereby copied, when one of them ends
    while True:
        message, streams, _, _ = socket.recv_fds(asked, _MOST_BYTES, _STREAMS)
        if not message:
            return None
        reading, writing = os.pipe()
        between = os.fork()
        if between == 0:
            pid = os.fork()
            if pid == 0:
                asked.close()
                os.close(reading)
                os.close(writing)
                _become(msgspec.json.decode(message, type=Order), streams)
                return lambda: _run(str(program))
            os.write(writing, str(pid).encode())
            os._exit(0)
        # Its end makes the fork a child of who asked. Only then may that one hear of it.
        os.waitpid(between, 0)
        for descriptor in (*streams, writing):
            os.close(descriptor)
        with open(reading, "rb") as pipe:  # noqa: PTH123 - a descriptor
            asked.send(pipe.read())


def _become(order: Order, streams: list[int]) -> None:
    if order.own_session:
        os.setsid()
    for number, descriptor in enumerate(streams):
        os.dup2(descriptor, number)
    for descriptor in streams:
        os.close(descriptor)
    while os.getppid() != order.parent:
        time.sleep(0.0005)
    if order.death_signal:
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, order.death_signal, 0, 0, 0)
        if os.getppid() != order.parent:
            os._exit(1)
    os.chdir(order.folder)
    os.environ.clear()
    os.environ.update(order.environment)
    time.tzset()
    if "PYTHONWARNINGS" in order.environment:
        warnings.simplefilter(order.environment["PYTHONWARNINGS"])  # type: ignore[arg-type]
    sys.dont_write_bytecode = bool(order.environment.get("PYTHONDONTWRITEBYTECODE"))
    sys.argv[1:] = order.arguments
    at_once = bool(order.environment.get("PYTHONUNBUFFERED"))
    sys.stdin = sys.__stdin__ = io.TextIOWrapper(open(0, "rb", closefd=False))  # noqa: SIM115
    sys.stdout = sys.__stdout__ = _writing_to(1, at_once=at_once)
    sys.stderr = sys.__stderr__ = _writing_to(2, at_once=at_once, errors="backslashreplace", line_buffering=True)


def _writing_to(number: int, *, at_once: bool, **how: Any) -> io.TextIOWrapper:
    raw = io.FileIO(number, "wb", closefd=False)
    return io.TextIOWrapper(raw if at_once else io.BufferedWriter(raw), write_through=at_once, **how)


def _run(program: str) -> None:
    runpy.run_module(program, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    rest = serve(sys.argv[1], socket.socket(fileno=int(sys.argv[2])))
    if rest is not None:
        rest()
