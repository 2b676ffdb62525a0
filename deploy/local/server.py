"""What the embedded servers have in common: one child process, one port, one log file.

Invariant: a server that does not get ready is gone again, and what it said last is in the sentence about it.
"""

from __future__ import annotations

import signal
import subprocess
from abc import ABC, abstractmethod
from pathlib import Path

from deploy.local.ports import free_port
from deploy.local.process import LocalError, stop

START_TIMEOUT_S = 60.0  # reading a large log or store again is part of starting
_STOP_GRACE_S = 15.0
_PORT_ATTEMPTS = 5


class EmbeddedServer(ABC):
    """A server that keeps everything below `data_dir`. All methods block and belong to one thread.

    `port` 0 takes a free one at the first start and keeps it for the life of this object.
    """

    name: str
    port_taken: str
    """What the server logs when somebody else listens on its port."""
    telling: tuple[str, ...]
    """What marks a line of its log that says why it ended."""

    def __init__(self, data_dir: Path, port: int = 0) -> None:
        self.data_dir = data_dir.absolute()
        self.port = port
        self.log_file = self.data_dir / f"{self.name.lower()}.log"
        self._child: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """Process id of the server, of PostgreSQL its postmaster; None when it is not running."""
        return self._child.pid if self._child is not None and self._child.poll() is None else None

    def start(self) -> None:
        """Start the server and return once it answers. Does nothing when it runs.

        Raises `LocalError` with one sentence; nothing is left running then.
        """
        if self.pid is not None:
            return
        try:
            self._prepare()
            self.port = self._start_on_a_port()
            self._finish_start()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Stop it in order: sessions end, everything is written. It is gone on return."""
        if self._child is not None:
            stop(self._child, gently=signal.SIGINT, grace_s=_STOP_GRACE_S)
            self._child = None

    def kill(self) -> None:
        """SIGKILL the server's process and nothing else, as a crash would. `start` recovers."""
        if self._child is not None:
            self._child.kill()
            self._child.wait()
            self._child = None

    @abstractmethod
    def _prepare(self) -> None:
        """What has to be there before the server can start."""

    @abstractmethod
    def _try_start(self, port: int) -> bool:
        """Start `_child` on `port`; whether it got ready. It is gone when not."""

    def _finish_start(self) -> None:  # noqa: B027 - not every server has something to add
        """What can only be done once the server runs."""

    def _start_on_a_port(self) -> int:
        """Somebody may take a free port before the server does; a port that was asked for has no second."""
        for _ in range(_PORT_ATTEMPTS):
            port = self.port or free_port()
            if self._try_start(port):
                return port
            if self.port or self.port_taken not in self._log_tail():
                raise LocalError(f"{self.name} did not start ({self._log_tail()}; see {self.log_file}).")
        raise LocalError(f"{self.name} found no free port on this machine.")

    def _log_tail(self) -> str:
        """The lines of the log that tell why, or else the last one."""
        try:
            lines = self.log_file.read_text(errors="replace").strip().splitlines()
        except OSError:
            return "it wrote no log"
        why = [line for line in lines if any(mark in line for mark in self.telling)]
        return " / ".join(why or lines[-1:]) or "it wrote nothing"
