"""nchan, the peer in fan-out: nginx with one worker, from Debian's packages.

``make bench-peers`` unpacks it into ``.bench/``; an installed one does as well.
"""

import shutil
import urllib.error
import urllib.request
from pathlib import Path

from deploy.local.ports import LOOPBACK
from deploy.local.process import spawn, wait_until
from deploy.local.server import START_TIMEOUT_S, EmbeddedServer
from deploy.local.service import ROOT

_UNPACKED = ROOT / ".bench" / "nchan"
_MODULE = Path("usr/lib/nginx/modules/ngx_nchan_module.so")
_PATH = "/usr/sbin:/usr/bin:/sbin:/bin"


def find_nchan() -> tuple[Path, Path] | None:
    """nginx and the module, if both are here."""
    if (_UNPACKED / _MODULE).exists():
        return _UNPACKED / "usr/sbin/nginx", _UNPACKED / _MODULE
    nginx = shutil.which("nginx", path=_PATH)
    return (Path(nginx), "/" / _MODULE) if nginx and ("/" / _MODULE).exists() else None


class Nchan(EmbeddedServer):
    """``POST /publish/{channel}`` and, as an EventSource, ``GET /subscribe/{channel}``."""

    name = "nchan"
    port_taken = "Address already in use"
    telling = ("[emerg]",)

    def __init__(self, data_dir: Path, programs: tuple[Path, Path]) -> None:
        super().__init__(data_dir)
        self._nginx, self._module = programs

    @property
    def worker(self) -> int:
        """Process id of the only worker, which does all the work."""
        (worker,) = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()
        return int(worker)

    def _prepare(self) -> None:
        self.data_dir.mkdir(parents=True, exist_ok=True)

    def _try_start(self, port: int) -> bool:
        configuration = self.data_dir / "nginx.conf"
        configuration.write_text(_configuration(self.data_dir, self._module, port))
        with self.log_file.open("wb") as log:
            self._child = spawn(
                [self._nginx, "-p", self.data_dir, "-e", "stderr", "-c", configuration],
                env={"PATH": _PATH},
                output=log,
            )
        if wait_until(lambda: _answers(port), child=self._child, timeout_s=START_TIMEOUT_S):
            return True
        self.stop()
        return False


def _configuration(folder: Path, module: Path, port: int) -> str:
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    temporary = "\n  ".join(f'{kind}_temp_path "{folder}/{kind}";' for kind in kinds)
    return f"""load_module "{module}";
user root;  # as root, who else owns this folder; otherwise nginx ignores it
daemon off;
pid "{folder}/nginx.pid";
error_log stderr warn;
worker_processes 1;
worker_rlimit_nofile 16384;
events {{ worker_connections 16000; }}
http {{
  access_log off;
  keepalive_requests 1000000;
  {temporary}
  nchan_shared_memory_size 256M;
  server {{
    listen {LOOPBACK}:{port} backlog=4096;
    location = /ready {{ return 204; }}
    location ~ ^/publish/(\\w+)$ {{ nchan_publisher; nchan_channel_id $1; nchan_message_buffer_length 1000; }}
    location ~ ^/subscribe/(\\w+)$ {{ nchan_subscriber eventsource; nchan_channel_id $1; }}
  }}
}}
"""


def _answers(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://{LOOPBACK}:{port}/ready", timeout=2) as answer:
            return answer.status == 204
    except (OSError, urllib.error.URLError):
        return False
