"""The commands that docs/operations.md has people type."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Mapping

from deploy.local.postgres import binary
from tests.support.servers import REPOSITORY

MANUAL = (REPOSITORY / "docs" / "operations.md").read_text()


def typed(section: str, first: str) -> str:
    """A block of commands in the section, from the line that begins with ``first``."""
    text = MANUAL.split(f"\n## {section}\n")[1].split("\n## ")[0]
    for block in re.findall(r"```sh\n(.*?)```", text, re.DOTALL):
        if (found := re.search(rf"^{re.escape(first)}.*", block, re.MULTILINE | re.DOTALL)) is not None:
            return found[0]
    raise AssertionError(f"the manual has no {first!r} in {section!r}")


def run_typed(
    section: str, first: str, environment: Mapping[str, str], *, replaced: Mapping[str, str] | None = None
) -> str:
    """Types it at the root of a checkout, with the programs of PostgreSQL at hand, and returns what is said.

    ``replaced`` are its examples.
    """
    script = typed(section, first)
    for example, value in (replaced or {}).items():
        assert example in script
        script = script.replace(example, value)
    done = subprocess.run(
        ["sh", "-e", "-c", script],
        cwd=REPOSITORY,
        env={"PATH": os.pathsep.join([str(binary("psql").parent), os.defpath]), **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def up_to(script: str, part: str) -> str:
    """A chain of commands up to the one with ``part`` in it, as if it had been ended there."""
    commands = script.split(" &&\n")
    return " &&\n".join(commands[: next(n for n, command in enumerate(commands, 1) if part in command)])
