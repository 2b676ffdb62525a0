"""Fixtures of the contract suite: one deployment for the session, one workspace for each test.

`--stack` says where the deployment comes from. Name this folder to use it (`pytest tests/contract --stack=compose`):
pytest reads options only from the conftest of the paths it is given, and a run of all tests uses the default.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import httpx
import pytest

from . import stacks
from .client import Workspace, fresh
from .sse import DEADLINE


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--stack",
        choices=sorted(stacks.STACKS),
        default="embedded",
        help="deployment under test: embedded servers, the same with authentication on (guarded), testcontainers,"
        " docker compose, or COMMAND_URL and QUERY_URL",
    )


@pytest.fixture(scope="session")
def deployment(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[stacks.Deployment]:
    """The deployment under test; each xdist worker has its own, except with `--stack=url`."""
    start = stacks.STACKS[str(request.config.getoption("stack", default="embedded"))]
    with start(tmp_path_factory.mktemp("stack")) as running:
        yield running


@pytest.fixture(scope="session")
async def http() -> AsyncIterator[httpx.AsyncClient]:
    # Connections idle for as long as a server keeps them may be closed under a request; give them up earlier.
    limits = httpx.Limits(max_connections=500, max_keepalive_connections=100, keepalive_expiry=2)
    async with httpx.AsyncClient(timeout=DEADLINE + 15, limits=limits, trust_env=False) as client:
        yield client


@pytest.fixture
def workspace(deployment: stacks.Deployment, http: httpx.AsyncClient) -> Workspace:
    return Workspace(http, deployment.command_url, deployment.query_url)


@pytest.fixture
def room() -> str:
    return fresh("room")


@pytest.fixture
async def run_id(workspace: Workspace, room: str) -> AsyncIterator[str]:
    """A running run for commands that are to be refused: afterwards its room holds nothing but its two events."""
    run = await workspace.running(room)
    yield run["run_id"]
    after = await workspace.create(room)
    assert after["stream_seq"] == run["stream_seq"] + 1, "a refused command wrote an event"
