"""The edge as it is deployed: real nginx with `deploy/edge/nginx.conf`, on a free port of this machine."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import ssl
import subprocess
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from deploy.local.ports import LOOPBACK
from deploy.local.process import spawn, wait_until
from deploy.local.server import START_TIMEOUT_S, EmbeddedServer
from tests.support.certificates import Certificates
from tests.support.servers import REPOSITORY

NGINX = shutil.which("nginx", path=os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin")))
WITHOUT_NGINX = "nginx is not installed (Debian: apt-get install nginx-light)"
CONFIGURATION = REPOSITORY / "deploy" / "edge" / "nginx.conf"
PAGES = REPOSITORY / "deploy" / "edge" / "pages.conf"
LOOKS_UP_NAMES_AGAIN = (1, 27, 3)
"""The first nginx that does, where a server is to be resolved."""
VARIABLE = re.compile(r"\$\{(EDGE_[A-Z_]+)\}")


def nginx_version() -> tuple[int, ...]:
    """Of the nginx there is, empty without one."""
    if NGINX is None:
        return ()
    said = subprocess.run([NGINX, "-v"], capture_output=True, text=True, check=True).stderr
    return tuple(map(int, said.partition("nginx/")[2].split()[0].split(".")))


class Edge(EmbeddedServer):
    """nginx in front of services at these addresses (`host:port`), or with these directives for an upstream; one worker
    for each core without a ``worker_count``."""

    name = "nginx"
    port_taken = "Address already in use"
    telling = ("[emerg]",)

    def __init__(
        self,
        data_dir: Path,
        *,
        command: Sequence[str],
        query: Sequence[str],
        pages: Path = PAGES,
        origins: str = "",
        worker_count: int | None = None,
    ) -> None:
        super().__init__(data_dir)
        self.data_dir.mkdir(parents=True)
        self.certificates = Certificates(self.data_dir)
        self._command, self._query, self._pages, self._origins = command, query, pages, origins
        self._worker_count = worker_count

    @property
    def url(self) -> str:
        return f"https://localhost:{self.port}"

    @property
    def workers(self) -> set[int]:
        """Process ids of all workers, those on their way out too."""
        return set(map(int, Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()))

    def ask_to_reload(self) -> None:
        """Has it read its configuration again, as `nginx -s reload` does; returns at once."""
        assert self.pid is not None
        os.kill(self.pid, signal.SIGHUP)

    def log(self) -> str:
        """Everything it has written so far, errors and all."""
        return self.log_file.read_text()

    def access_log(self) -> list[dict[str, Any]]:
        """The access log's lines, oldest first."""
        return [json.loads(line) for line in self.log().splitlines() if line.startswith("{")]

    def _prepare(self) -> None:
        self.log_file.unlink(missing_ok=True)

    def _try_start(self, port: int) -> bool:
        assert NGINX is not None, WITHOUT_NGINX
        configuration = self.data_dir / "nginx.conf"
        configuration.write_text(self._filled_in(port))
        # Whoever may enter this folder: as root, workers would otherwise be somebody else.
        user = ["-g", "user root;"] if os.geteuid() == 0 else []
        with self.log_file.open("ab") as log:
            self._child = spawn(
                [NGINX, "-p", self.data_dir, "-e", "stderr", "-c", configuration, *user],
                env={"PATH": os.environ["PATH"]},
                output=log,
            )
        if wait_until(_answering(self.certificates, port), child=self._child, timeout_s=START_TIMEOUT_S):
            return True
        self.stop()
        return False

    def _filled_in(self, port: int) -> str:
        values: Mapping[str, str] = {
            "EDGE_LISTEN": f"{LOOPBACK}:{port}",
            "EDGE_CERTIFICATE": str(self.certificates.server),
            "EDGE_CERTIFICATE_KEY": str(self.certificates.server_key),
            "EDGE_COMMAND": _servers(self._command),
            "EDGE_QUERY": _servers(self._query),
            "EDGE_ORIGINS": self._origins,
            "EDGE_PAGES": str(self._pages),
            "EDGE_RUN": str(self.data_dir),
            "EDGE_WORKERS": str(self._worker_count or "auto"),
        }
        return VARIABLE.sub(lambda found: values[found[1]], CONFIGURATION.read_text())


def _servers(addresses: Sequence[str]) -> str:
    return " ".join(address if address.endswith(";") else f"server {address};" for address in addresses)


def _answering(certificates: Certificates, port: int) -> Callable[[], bool]:
    context: ssl.SSLContext = certificates.client()

    def answers() -> bool:
        try:
            with urllib.request.urlopen(f"https://{LOOPBACK}:{port}/healthz", timeout=2, context=context) as answer:
                return answer.status == 200
        except (OSError, urllib.error.URLError):
            return False

    return answers
