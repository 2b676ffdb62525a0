"""Makes the secrets of a deployment on one host, once: `python -m deploy.make_secrets FOLDER`.

Below FOLDER each party has a folder of its own, to be mounted where it alone can read it:

- `migrate`, `command`, `projector`, `query`: `pgpass`, in libpq's form, for its role; the last three `nats.seed`
- `postgres`: `password`, the superuser's (POSTGRES_PASSWORD if that is set), `pgpass` for the same, and `roles.env`
  with what deploy/postgres/roles.sql needs; there is no password of a role in it
- `nats`: `users.env` with what deploy/nats/users.conf needs; there is no secret in it

Files that are there already stay: the servers know what is in them.
"""

import os
import re
import secrets
import sys
from pathlib import Path

from deploy.scram import scram_verifier
from deploy.secret_files import public_key, write_secret, write_seed

SUPERUSER = "runroom"
ROLES = ("migrate", "command", "projector", "query")
USERS = ("command", "projector", "query")


def main(folder: Path) -> None:
    for party in ("postgres", "nats", *ROLES):
        (folder / party).mkdir(mode=0o700, exist_ok=True)
    password = folder / "postgres" / "password"
    if not password.exists():
        write_secret(password, os.environ.get("POSTGRES_PASSWORD") or _new_password())
    write_secret(folder / "postgres" / "pgpass", _pgpass(SUPERUSER, password.read_text()))
    verifiers = (f"RUNROOM_{role.upper()}_VERIFIER='{_verifier(folder / role / 'pgpass', role)}'\n" for role in ROLES)
    write_secret(folder / "postgres" / "roles.env", "".join(verifiers))
    keys = (f"NATS_{user.upper()}_NKEY={_public_key(folder / user / 'nats.seed')}\n" for user in USERS)
    write_secret(folder / "nats" / "users.env", "".join(keys))


def _verifier(pgpass: Path, role: str) -> str:
    """Of the password of a role, which is made if there is none."""
    if not pgpass.exists():
        write_secret(pgpass, _pgpass(f"runroom_{role}", _new_password()))
    try:
        return scram_verifier(_password(pgpass.read_text()))
    except ValueError as error:
        raise SystemExit(f"{pgpass}: {error}") from error


def _public_key(seed: Path) -> str:
    write_seed(seed)
    return public_key(seed)


def _new_password() -> str:
    return secrets.token_urlsafe(24)


def _password(pgpass: str) -> str:
    """What libpq would take from a line of five fields, in which `:` and `\\` are escaped."""
    fields = re.fullmatch(r"(?:(?:[^:\\]|\\.)*:){4}((?:[^:\\]|\\.)+)", pgpass.removesuffix("\n"))
    if fields is None:
        raise ValueError("not one line of host:port:database:user:password, with : and \\ in them as \\: and \\\\")
    return re.sub(r"\\(.)", r"\1", fields[1])


def _pgpass(role: str, password: str) -> str:
    escaped = password.replace("\\", "\\\\").replace(":", "\\:")
    return f"*:*:*:{role}:{escaped}\n"


if __name__ == "__main__":
    main(Path(sys.argv[1]))
