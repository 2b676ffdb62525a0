"""One deployment behind the edge for each module: PostgreSQL, NATS, the services with authentication on, nginx."""

from __future__ import annotations

import secrets
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import jwt
import pytest

from deploy.local import LocalSettings, LocalStack
from tests.contract.client import Workspace, fresh
from tests.contract.sse import DEADLINE
from tests.support.edge import NGINX, PAGES, WITHOUT_NGINX, Edge

JWT_SECRET = secrets.token_hex(32)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if NGINX is None:
        here = Path(__file__).parent
        for item in items:
            if here in item.path.parents:
                item.add_marker(pytest.mark.skip(reason=WITHOUT_NGINX))


@pytest.fixture(scope="module")
def origins() -> str:
    """Whose pages may read answers."""
    return "https://app.test, https://[::1]:8443"


@pytest.fixture(scope="module")
def stack(origins: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalStack]:
    stack = LocalStack(
        LocalSettings(data_dir=tmp_path_factory.mktemp("stack")),
        variables={"AUTH_JWT_SECRET": JWT_SECRET, "SHUTDOWN_GRACE_SECONDS": "2", "CORS_ORIGINS": origins},
    )
    stack.start()
    try:
        yield stack
    finally:
        stack.stop()


@pytest.fixture(scope="module")
def pages() -> Path:
    """What the edge serves besides the services."""
    return PAGES


@pytest.fixture(scope="module")
def edge(stack: LocalStack, pages: Path, origins: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Edge]:
    assert stack.command is not None
    assert stack.query is not None
    edge = Edge(
        tmp_path_factory.mktemp("edge") / "nginx",
        command=[f"127.0.0.1:{stack.command.port}"],
        query=[f"127.0.0.1:{stack.query.port}"],
        pages=pages,
        origins=origins,
    )
    edge.start()
    try:
        yield edge
    finally:
        edge.stop()


@pytest.fixture
def workspace_id() -> str:
    return fresh("ws")


@pytest.fixture
def token(workspace_id: str) -> str:
    """A token of a workspace of the test's own."""
    claims = {
        "sub": "tester",
        "actor_type": "user",
        "workspace": workspace_id,
        "scope": "runs:read runs:write",
        "exp": int(time.time()) + 3600,
    }
    return jwt.encode(claims, JWT_SECRET, algorithm="HS256")


def client(edge: Edge, token: str, *, http2: bool) -> httpx.AsyncClient:
    return httpx.AsyncClient(
        base_url=edge.url,
        http2=http2,
        verify=edge.certificates.client(),
        timeout=DEADLINE + 15,
        trust_env=False,
        headers={"authorization": f"Bearer {token}"},
    )


@pytest.fixture
async def http(edge: Edge, token: str) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the edge over HTTP/2, with the token."""
    async with client(edge, token, http2=True) as http:
        yield http


@pytest.fixture
async def http1(edge: Edge, token: str) -> AsyncIterator[httpx.AsyncClient]:
    """The same over HTTP/1.1, for answers that come before the request is whole: httpx misses those over HTTP/2."""
    async with client(edge, token, http2=False) as http:
        yield http


@pytest.fixture
def workspace(edge: Edge, http: httpx.AsyncClient, workspace_id: str) -> Workspace:
    return Workspace(http, edge.url, edge.url, workspace_id)


@pytest.fixture
def room() -> str:
    return fresh("room")
