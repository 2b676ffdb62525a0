"""The edge's template, its description and `docker-compose.yml` name the same variables."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from shared.http.auth.settings import read_auth_settings
from shared.settings import Environment, SettingsError
from tests.support.edge import CONFIGURATION, VARIABLE
from tests.support.servers import REPOSITORY

TEMPLATE = CONFIGURATION.read_text()
USED = set(VARIABLE.findall(TEMPLATE))


def test_the_template_says_what_it_takes() -> None:
    assert len(USED) == 9
    assert set(re.findall(r"^#   (EDGE_[A-Z_]+)", TEMPLATE, re.MULTILINE)) == USED


def test_the_readme_says_what_it_takes() -> None:
    rows = re.findall(r"^\| (`EDGE.*?) \|", (REPOSITORY / "deploy/edge/README.md").read_text(), re.MULTILINE)
    assert {name for row in rows for name in re.findall(r"`(EDGE_[A-Z_]+)`", row)} == USED


def test_compose_fills_it_in() -> None:
    compose = yaml.safe_load((REPOSITORY / "docker-compose.yml").read_text())
    given = compose["services"]["edge"]["environment"]
    assert {name for name in given if name.startswith("EDGE_")} == USED
    assert given["EDGE_COMMAND"].endswith(" server command:8001 resolve;")
    assert given["EDGE_QUERY"].endswith(" server query:8002 resolve;")
    assert given["EDGE_ORIGINS"] == "${CORS_ORIGINS:-}"
    assert given["EDGE_WORKERS"] == "auto"
    assert compose["services"]["edge"]["profiles"] == ["edge"]


def typed() -> str:
    """What the README has one type on a machine, but for nginx itself."""
    readme = (REPOSITORY / "deploy/edge/README.md").read_text()
    (block,) = [one for one in re.findall(r"```sh\n(.*?)```", readme, re.DOTALL) if "envsubst" in one]
    return block.partition("\nnginx ")[0]


@pytest.mark.skipif(shutil.which("envsubst") is None, reason="envsubst is not installed")
def test_it_is_filled_in_as_the_readme_has_it_typed(tmp_path: Path) -> None:
    folder = tmp_path / "edge"
    commands = typed().replace("/var/lib/edge", str(folder))
    path = {"PATH": os.environ["PATH"]}
    subprocess.run(["sh", "-eu", "-c", commands], cwd=REPOSITORY, env=path, check=True)
    filled_in = (folder / "nginx.conf").read_text()
    uncommented = re.sub(r"^ *#.*$", "", filled_in, flags=re.MULTILINE)
    assert VARIABLE.findall(uncommented) == []
    # What is nginx's own stays.
    assert "$http_x_request_id" in uncommented
    assert f"pid {folder}/nginx.pid;" in uncommented


def test_services_on_loopback_behind_the_edge_do_not_start_without_a_key() -> None:
    """Typed as the README has it, but for the key."""
    readme = (REPOSITORY / "deploy/edge/README.md").read_text()
    (address,) = re.findall(r"^export PUBLISHED_ON=(\S+) AUTH_JWKS=", readme, re.MULTILINE)
    assert readme.index("export PUBLISHED_ON") < readme.index("export EDGE_LISTEN")
    env = Environment({"PUBLISHED_ON": address})
    assert read_auth_settings(env, "127.0.0.1") is None
    with pytest.raises(SettingsError, match=f"others can reach the service at {address}"):
        env.finish()
