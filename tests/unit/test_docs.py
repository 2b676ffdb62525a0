"""What the documentation points at exists, so that it cannot go stale unseen."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
PAGES = [
    REPOSITORY / "README.md",
    *sorted((REPOSITORY / "docs").rglob("*.md")),
    *sorted((REPOSITORY / "deploy").rglob("*.md")),
]
LINK = re.compile(r"\]\((?!https?://|#)([^)#]+)")
MAKE_COMMAND = re.compile(r"\bmake ([a-z][a-z-]+)")
PLACE = re.compile(r"^((?:services|shared|deploy|tests|bench|docs)/[a-z_/]*)", re.MULTILINE)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_every_link_leads_somewhere(page: Path) -> None:
    missing = [target for target in LINK.findall(page.read_text()) if not (page.parent / target).exists()]
    assert missing == []


@pytest.mark.parametrize(
    "page", [REPOSITORY / "README.md", REPOSITORY / "docs" / "architecture.md"], ids=lambda p: p.name
)
def test_every_folder_of_the_layout_exists(page: Path) -> None:
    places = PLACE.findall(page.read_text())
    assert len(places) > 5
    assert [place for place in places if not (REPOSITORY / place).is_dir()] == []


def test_every_make_command_of_the_readme_exists() -> None:
    targets = re.findall(r"^([a-z-]+):", (REPOSITORY / "Makefile").read_text(), re.MULTILINE)
    blocks = re.findall(r"```sh\n(.*?)```|`([^`\n]+)`", (REPOSITORY / "README.md").read_text(), re.DOTALL)
    named = {name for block in blocks for part in block for name in MAKE_COMMAND.findall(part)}
    assert {"up", "demo", "test", "check"} <= named
    assert named - set(targets) == set()


def test_every_decision_is_listed() -> None:
    decisions = REPOSITORY / "docs" / "decisions"
    listed = LINK.findall((decisions / "README.md").read_text())
    assert sorted(listed) == sorted(page.name for page in decisions.glob("[0-9]*.md"))
