"""Makes `.venv` hold exactly what `requirements-dev.lock` says, and does nothing when it does.

Run by `make` with any Python from 3.11 on; needs nothing but the standard library. Two at the same time are safe: the
second waits, and finds the work done. An interrupted install is not taken for a finished one: the stamp comes last.
"""

import fcntl
import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
VENV = ROOT / ".venv"
LOCK = ROOT / "requirements-dev.lock"
STAMP = VENV / ".installed"


def wanted() -> str:
    """What the stamp says when nothing is to be done. The place is part of it: a moved environment is broken."""
    return f"{hashlib.sha256(LOCK.read_bytes()).hexdigest()} {VENV}\n"


def installed() -> bool:
    if not STAMP.exists() or STAMP.read_text() != wanted():
        return False
    interpreter = VENV / "bin" / "python"  # a link, and its target may have been uninstalled
    return interpreter.exists()


def install() -> None:
    print(f"Installing into {VENV.name}/ from {LOCK.name} (once, up to a minute) …", file=sys.stderr)
    shutil.rmtree(VENV, ignore_errors=True)
    run([sys.executable, "-m", "venv", str(VENV)], "Cannot create .venv")
    run(
        [
            str(VENV / "bin" / "python"),
            *("-m", "pip", "--quiet", "--disable-pip-version-check", "--no-input", "install"),
            *("--require-hashes", "--only-binary", ":all:", "--no-deps", "--requirement", str(LOCK)),
        ],
        "Cannot install the packages of requirements-dev.lock",
    )
    STAMP.write_text(wanted())


def run(command: list[str], failure: str) -> None:
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"{done.stdout.strip()}\n{failure}: see the lines above.")


def main() -> None:
    if installed():
        return
    try:
        with (ROOT / ".venv.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not installed():
                install()
    except OSError as error:
        sys.exit(f"Cannot write {error.filename or ROOT}: {error.strerror}.")


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
