"""TCP ports on loopback: is one free, and which one is."""

from __future__ import annotations

import random
import socket

LOOPBACK = "127.0.0.1"


def is_free(port: int, host: str = LOOPBACK) -> bool:
    """Whether a server could listen on `port` right now, as servers do: a port in TIME_WAIT counts as free."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
            probe.listen(1)
        except OSError:
            return False
    return True


def free_port() -> int:
    """A port that nobody listens on now, from below those that the system gives to outgoing connections.

    So nothing takes it by chance before a server does; only another caller could, and hardly ever.
    """
    while True:
        port = random.randrange(15_000, 32_000)  # noqa: S311 - spread, not secrecy
        if is_free(port):
            return port
