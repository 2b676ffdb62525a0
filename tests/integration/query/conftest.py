"""One query process, its projections and its stream, per module."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from deploy.local import EmbeddedNats
from tests.support.servers import as_service

from . import service, world


@pytest.fixture(scope="module")
async def projections(projection_dsn: str) -> AsyncIterator[world.Projections]:
    async with world.projections(projection_dsn) as projections:
        yield projections


@pytest.fixture(scope="module")
async def stream(fresh_nats: EmbeddedNats) -> AsyncIterator[world.Stream]:
    """The stream ``ROOMS``, empty."""
    async with world.stream(fresh_nats.url) as stream:
        await stream.ensure()
        yield stream


@pytest.fixture(scope="module")
def variables(projection_dsn: str, fresh_nats: EmbeddedNats) -> dict[str, str]:
    return as_service("query", nats=fresh_nats.url, PROJECTION_DSN=projection_dsn)


@pytest.fixture(scope="module")
async def query(variables: dict[str, str], stream: world.Stream) -> AsyncIterator[service.QueryService]:
    async with service.running(variables) as query:
        yield query


@pytest.fixture
def room() -> str:
    return world.fresh("room")
