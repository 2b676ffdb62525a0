"""The edge's template, its description and `docker-compose.yml` name the same variables."""

from __future__ import annotations

import re

import yaml

from tests.support.edge import CONFIGURATION, VARIABLE
from tests.support.servers import REPOSITORY

TEMPLATE = CONFIGURATION.read_text()
USED = set(VARIABLE.findall(TEMPLATE))


def test_the_template_says_what_it_takes() -> None:
    assert len(USED) == 8
    assert set(re.findall(r"^#   (EDGE_[A-Z_]+)", TEMPLATE, re.MULTILINE)) == USED


def test_the_readme_says_what_it_takes() -> None:
    rows = re.findall(r"^\| (`EDGE.*?) \|", (REPOSITORY / "deploy/edge/README.md").read_text(), re.MULTILINE)
    assert {name for row in rows for name in re.findall(r"`(EDGE_[A-Z_]+)`", row)} == USED


def test_compose_fills_it_in() -> None:
    compose = yaml.safe_load((REPOSITORY / "docker-compose.yml").read_text())
    given = compose["services"]["edge"]["environment"]
    assert {name for name in given if name.startswith("EDGE_")} == USED
    assert given["EDGE_COMMAND"] == "server command:8001;"
    assert given["EDGE_QUERY"] == "server query:8002;"
    assert given["EDGE_ORIGINS"] == "${CORS_ORIGINS:-}"
    assert compose["services"]["edge"]["profiles"] == ["edge"]
