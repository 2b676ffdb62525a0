"""One of the services as a child process: started, known to be ready, followed line by line, stopped.

Invariant: what a service says is never lost with it: each line goes to its log file, to whoever listens, and the last
ones into the sentence about its death.
"""

from __future__ import annotations

import collections
import http.client
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO

from deploy.local.ports import LOOPBACK
from deploy.local.process import LocalError, spawn, stop, wait_until

ROOT = Path(__file__).resolve().parents[2]
Echo = Callable[[str, str], None]
"""Called from a thread with the service's name and one line of its output."""

_READY_TIMEOUT_S = 60.0
_COLOUR_CODE = re.compile(r"\x1b\[[0-9;]*m")
_STOP_GRACE_S = 15.0  # above the services' own grace for open requests


class Service:
    """`python -m <module>` listening on `port`. All methods block and belong to one thread."""

    def __init__(
        self,
        name: str,
        module: str,
        port: int,
        *,
        env: Mapping[str, str],
        log_file: Path,
        echo: Echo | None = None,
    ) -> None:
        self.name = name
        self.port = port
        self.log_file = log_file
        self._argv = (sys.executable, "-m", module)
        self._env = dict(env)
        self._echo = echo
        self._child: subprocess.Popen[bytes] | None = None
        self._pump: threading.Thread | None = None
        self._last_lines: collections.deque[str] = collections.deque(maxlen=5)

    @property
    def url(self) -> str:
        return f"http://{LOOPBACK}:{self.port}"

    @property
    def pid(self) -> int | None:
        """Process id, None when it is not running."""
        return self._child.pid if self._child is not None and self._child.poll() is None else None

    def start(self) -> None:
        """Start it and return at once; `wait_until_ready` tells when it works. Does nothing when it runs."""
        if self.pid is not None:
            return
        self._reap()
        self._last_lines.clear()
        try:
            log = self.log_file.open("ab")
        except OSError as error:
            raise LocalError(f"Cannot write {self.log_file}: {error.strerror}.") from error
        # It is crash-safe and its next start must find the port free, so it does not linger when we are gone.
        self._child = spawn(self._argv, env=self._env, output=subprocess.PIPE, cwd=ROOT, death_signal=signal.SIGKILL)
        self._pump = threading.Thread(target=self._follow, args=(self._child, log), daemon=True)
        self._pump.start()

    def wait_until_ready(self) -> None:
        """Return once `/readyz` answers 200. Raises `LocalError` when it dies first or takes too long."""
        child = self._child
        if child is None or not wait_until(self.is_ready, child=child, timeout_s=_READY_TIMEOUT_S):
            raise LocalError(
                self.death()
                or f"The {self.name} service is not ready after {_READY_TIMEOUT_S:.0f} seconds; see {self.log_file}."
            )

    def is_ready(self) -> bool:
        """Whether `/readyz` answers 200 now."""
        connection = http.client.HTTPConnection(LOOPBACK, self.port, timeout=2)
        try:
            connection.request("GET", "/readyz")
            return connection.getresponse().status == http.client.OK
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    def death(self) -> str | None:
        """One sentence when it has ended without being told to, else None."""
        if self._child is None or self._child.poll() is None:
            return None
        code = self._child.returncode
        how = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
        if self._pump is not None:
            self._pump.join(timeout=2)
        said = f", after saying: {self._last_lines[-1]}" if self._last_lines else ""
        return f"The {self.name} service {how}{said} (all of it in {self.log_file})."

    def ask_to_stop(self) -> None:
        """Send SIGTERM and return at once."""
        if self._child is not None and self._child.poll() is None:
            self._child.terminate()

    def stop(self) -> None:
        """SIGTERM, then after a grace SIGKILL; gone on return."""
        if self._child is not None:
            stop(self._child, gently=signal.SIGTERM, grace_s=_STOP_GRACE_S)
        self._reap()

    def kill(self) -> None:
        """SIGKILL, as a crash would; gone on return."""
        if self._child is not None:
            self._child.kill()
            self._child.wait()
        self._reap()

    def _reap(self) -> None:
        if self._pump is not None:
            self._pump.join()
        self._child = self._pump = None

    def _follow(self, child: subprocess.Popen[bytes], log: IO[bytes]) -> None:
        with log, child.stdout or log as output:
            for raw in output:
                line = raw.decode(errors="replace").rstrip()
                plain = without_colour(line)
                log.write(f"{plain}\n".encode())
                log.flush()
                self._last_lines.append(plain)
                if self._echo is not None:
                    self._echo(self.name, line)


def without_colour(line: str) -> str:
    return _COLOUR_CODE.sub("", line)
