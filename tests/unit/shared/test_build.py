"""What a build says of itself."""

import tomllib
from pathlib import Path

from shared.build import VERSION


def test_the_version_is_the_projects() -> None:
    project = tomllib.loads((Path(__file__).parents[3] / "pyproject.toml").read_text())["project"]
    assert project["version"] == VERSION
