"""Writes PostgreSQL's password into the folder given, once: POSTGRES_PASSWORD if it is set, else a random one.

Two files, 0600: `password`, the bare password, for the server; `pgpass`, in libpq's form, for its clients. Files that
are there already stay: the server took its password when its volume was created, and keeps it.
"""

import os
import secrets
import sys
from pathlib import Path

USER = "runroom"


def write(file: Path, content: str) -> None:
    """All of it or nothing, readable by its owner alone."""
    draft = file.with_suffix(".new")
    draft.unlink(missing_ok=True)
    draft.touch(mode=0o600)
    draft.write_text(content)
    draft.rename(file)


def main(folder: Path) -> None:
    bare, pgpass = folder / "password", folder / "pgpass"
    if not bare.exists():
        write(bare, os.environ.get("POSTGRES_PASSWORD") or secrets.token_urlsafe(24))
    escaped = bare.read_text().replace("\\", "\\\\").replace(":", "\\:")
    write(pgpass, f"*:*:*:{USER}:{escaped}\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
