"""The commands that docs/operations.md has people type."""

from __future__ import annotations

import re

from tests.support.servers import REPOSITORY

_MANUAL = (REPOSITORY / "docs" / "operations.md").read_text()


def typed(section: str, first: str) -> str:
    """A block of commands in the section, from the line that begins with ``first``."""
    text = _MANUAL.split(f"\n## {section}\n")[1].split("\n## ")[0]
    for block in re.findall(r"```sh\n(.*?)```", text, re.DOTALL):
        if (found := re.search(rf"^{re.escape(first)}.*", block, re.MULTILINE | re.DOTALL)) is not None:
            return found[0]
    raise AssertionError(f"the manual has no {first!r} in {section!r}")
