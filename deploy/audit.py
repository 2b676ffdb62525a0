"""`python -m deploy.audit`: the locked dependencies, looked at.

Every entry of both locks is pinned to one version and has hashes, so nothing else can be installed; every package that
pyproject.toml names is locked. Then, where PyPI's advisories can be reached, pip-audit asks whether any locked version
has a known fault. Without a network that part says so and is left out.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
import urllib.request
from pathlib import Path

ROOT = Path(__file__).parents[1]
LOCKS = ("requirements.lock", "requirements-dev.lock")
ADVISORIES = "https://pypi.org/pypi/jinja2/2.4.1/json"
"""A version with known faults: a mirror that answers without them has no advisories."""
PIP_AUDIT = "pip-audit==2.10.1"
_SECONDS = 3.0
_PINNED = re.compile(r"(?P<name>[A-Za-z0-9._-]+)==(?P<version>[^\s;\\]+)")
_HASH = re.compile(r"--hash=sha256:[0-9a-f]{64}\b")


def faults(lock: str, wanted: set[str]) -> list[str]:
    """What is wrong with the text of a lock that has to hold the wanted packages."""
    found: list[str] = []
    locked: set[str] = set()
    for entry in re.split(r"\n(?=\S)", re.sub(r"(?m)^#.*\n?", "", lock).strip()):
        pinned = _PINNED.match(entry)
        if pinned is None:
            found.append(f"not pinned: {entry.splitlines()[0] if entry else 'nothing at all'}")
        else:
            locked.add(canonical(pinned["name"]))
            if _HASH.search(entry) is None:
                found.append(f"no hash: {pinned['name']}")
    return found + [f"not locked: {name}" for name in sorted(wanted - locked)]


def canonical(name: str) -> str:
    """The name as PEP 503 compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def wanted(project: str, *, development: bool) -> set[str]:
    """The packages that pyproject.toml names."""
    table = tomllib.loads(project)["project"]
    named: list[str] = list(table["dependencies"])
    if development:
        for extra in table["optional-dependencies"].values():
            named += extra
    return {canonical(re.split(r"[\[<>=!~; ]", name, maxsplit=1)[0]) for name in named}


def advisories_can_be_reached() -> bool:
    try:
        with urllib.request.urlopen(ADVISORIES, timeout=_SECONDS) as answer:
            return bool(json.load(answer).get("vulnerabilities"))
    except (OSError, ValueError):
        return False


def main() -> int:
    project = (ROOT / "pyproject.toml").read_text()
    found = [
        f"{name}: {fault}"
        for name in LOCKS
        for fault in faults((ROOT / name).read_text(), wanted(project, development=name != LOCKS[0]))
    ]
    for fault in found:
        print(fault, file=sys.stderr)
    if found:
        return 1
    print(f"{' and '.join(LOCKS)}: pinned, with hashes, complete")
    if not advisories_can_be_reached():
        print("PyPI's advisories cannot be reached from here: known faults were not looked for")
        return 0
    uvx = str(Path(sys.executable).parent / "uvx")
    options = ["--strict", "--disable-pip", "--require-hashes", "--progress-spinner", "off"]
    return subprocess.run([uvx, "--quiet", PIP_AUDIT, *options, "-r", LOCKS[1]], cwd=ROOT, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
