"""What clients without a token have a worker of the edge hold."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from deploy.local.ports import free_port
from tests.contract.sse import DEADLINE
from tests.support.edge import Edge
from tests.support.http2 import Http2Client, http2_client

KIB, MIB = 1024, 1024 * 1024
STREAMS = 100
"""Of a connection."""
MOST_REQUESTS = 4096
"""That a worker has under way."""
FIELD = ("x-a", "~" * 3850)
"""As large as what HTTP/2 has a client send by its number may be; it is a byte then."""


class Silent:
    """A service that takes what it is sent, and never answers."""

    def __init__(self) -> None:
        self.port = free_port()
        self.requests = 0
        self.body_bytes = 0

    async def take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            self.requests += 1
            while piece := await reader.read(64 * KIB):
                self.body_bytes += len(piece)
        finally:
            writer.close()


@pytest.fixture
async def service() -> AsyncIterator[Silent]:
    service = Silent()
    async with await asyncio.start_server(service.take, "127.0.0.1", service.port, limit=128 * KIB, backlog=1024):
        yield service


@pytest.fixture
def edge(service: Silent, tmp_path: Path) -> Iterator[Edge]:
    address = f"127.0.0.1:{service.port}"
    edge = Edge(tmp_path / "nginx", command=[address], query=[address], worker_count=1)
    edge.start()
    try:
        yield edge
    finally:
        edge.stop()


def peak(edge: Edge) -> int:
    """The most memory that the worker has ever had."""
    (worker,) = edge.workers
    return int(Path(f"/proc/{worker}/status").read_text().split("VmHWM:")[1].split()[0]) * KIB


async def passes(edge: Edge, service: Silent, fields: int) -> bool:
    """Whether a head with so many of ``FIELD`` comes to the service."""
    before = service.requests
    async with http2_client(edge) as client:
        client.ask("GET", "/v1/runs", [FIELD] * fields)
        await client.flush()
        while service.requests == before and not client.is_closed:
            await asyncio.sleep(0.01)
    return service.requests > before


async def test_what_is_held_of_a_request_that_came_as_a_few_bytes(edge: Edge, service: Silent) -> None:
    """Requests with the largest head that passes, while they wait for the service."""
    most = 16
    async with asyncio.timeout(DEADLINE):
        while not await passes(edge, service, most):
            most -= 1
    before, begun, connections = peak(edge), service.requests, 6
    async with AsyncExitStack() as opened:
        for _ in range(connections):
            client = await opened.enter_async_context(http2_client(edge))
            for _ in range(STREAMS):
                client.ask("GET", "/v1/runs", [FIELD] * most)
            await client.flush()
        async with asyncio.timeout(DEADLINE):
            while service.requests - begun < connections * STREAMS:
                await asyncio.sleep(0.02)
        assert (peak(edge) - before) / (connections * STREAMS) < 90 * KIB
    # A token is 8 KiB in one line, beside what browsers send.
    assert most * len(FIELD[1]) > 20 * KIB


async def test_answers_that_nobody_takes_are_so_many(edge: Edge) -> None:
    """And beyond those, requests are cut off, not answered: such an answer would be one more of them."""
    before = peak(edge)
    async with AsyncExitStack() as opened:
        clients: list[Http2Client] = []
        while len(clients) * STREAMS < MOST_REQUESTS + 2 * STREAMS:
            client = await opened.enter_async_context(http2_client(edge, window=0))
            clients.append(client)
            for _ in range(STREAMS):
                client.ask("GET", "/nowhere")
            await client.flush()
        async with asyncio.timeout(DEADLINE):
            for client in clients:
                await client.settled()
        assert sum(len(client.answered) for client in clients) == MOST_REQUESTS
        assert {status for client in clients for status in client.answered.values()} == {"404"}
        assert peak(edge) - before < MOST_REQUESTS * 30 * KIB
    async with http2_client(edge) as client, asyncio.timeout(DEADLINE):
        while "404" not in client.answered.values():
            client.ask("GET", "/nowhere")
            await client.flush()
            await client.settled()


async def test_a_check_of_health_is_held_for_nobody(edge: Edge) -> None:
    async with http2_client(edge, window=0) as client, asyncio.timeout(DEADLINE):
        for _ in range(STREAMS):
            client.ask("GET", "/healthz")
        await client.flush()
        await client.settled()
        assert set(client.answered.values()) == {"204"}
        assert client.ended == client.asked


async def test_bodies_go_on_as_they_come(edge: Edge, service: Silent) -> None:
    """Of those whose last byte is kept back, the service has the rest, and bounds it."""
    before, bodies = peak(edge), 64
    async with http2_client(edge) as client, asyncio.timeout(2 * DEADLINE):
        for _ in range(bodies):
            stream = client.ask("POST", "/v1/runs", [("content-length", str(MIB))], ends=False)
            await client.flush()
            sent = 0
            while sent < MIB - 1:
                sent += await client.send(stream, bytes(min(MIB - 1 - sent, 256 * KIB)))
                await asyncio.sleep(0.001)
        while service.body_bytes < bodies * (MIB - 1):
            await asyncio.sleep(0.02)
        assert peak(edge) - before < bodies * MIB / 4
