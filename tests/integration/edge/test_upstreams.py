"""What the edge passes on, and what it does when a service breaks down: a read is asked of another, a POST never twice.

The services here are made to break: each notes what it is sent, and where it is told to closes the connection without
an answer.
"""

from __future__ import annotations

import asyncio
import json
import struct
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from ipaddress import ip_address
from pathlib import Path

import httpx
import pytest
import yaml

from deploy.local.ports import free_port
from tests.support.edge import LOOKS_UP_NAMES_AGAIN, Edge, nginx_version
from tests.support.servers import REPOSITORY


class Upstream:
    """Takes one request a connection."""

    def __init__(self, *, answers: bool) -> None:
        self.port = free_port()
        self.requests: list[list[str]] = []
        """The lines of each request's head."""
        self._answers = answers

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    async def take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode().strip()
            self.requests.append(head.split("\r\n"))
            if self._answers:
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
                await writer.drain()
        finally:
            writer.close()


@asynccontextmanager
async def listening(*, answers: bool) -> AsyncIterator[Upstream]:
    upstream = Upstream(answers=answers)
    async with await asyncio.start_server(upstream.take, "127.0.0.1", upstream.port):
        yield upstream


@asynccontextmanager
async def edge_before(
    folder: Path, upstreams: list[str], others: list[str] | None = None, *, http2: bool = True
) -> AsyncIterator[httpx.AsyncClient]:
    """A client of an edge in this folder; ``others`` are the query services where those are not the same."""
    edge = Edge(folder / "nginx", command=upstreams, query=others or upstreams)
    edge.start()
    try:
        verify = edge.certificates.client()
        async with httpx.AsyncClient(base_url=edge.url, http2=http2, verify=verify, trust_env=False) as client:
            yield client
    finally:
        edge.stop()


async def test_a_post_that_was_sent_is_never_repeated(tmp_path: Path) -> None:
    async with AsyncExitStack() as opened:
        broken = [await opened.enter_async_context(listening(answers=False)) for _ in range(2)]
        client = await opened.enter_async_context(edge_before(tmp_path, [one.address for one in broken]))
        answer = await client.post("/v1/runs", json={})
        assert answer.status_code == 502
        assert answer.json()["error"] == "bad_gateway"
        assert sum(len(one.requests) for one in broken) == 1
    # nginx is gone, and has written everything.
    (line,) = [json.loads(line) for line in (tmp_path / "nginx" / "nginx.log").read_text().splitlines() if "{" in line]
    assert (line["method"], line["status"], line["upstream_status"]) == ("POST", "502", "502")


async def test_a_post_that_could_not_be_sent_goes_to_another(tmp_path: Path) -> None:
    async with (
        listening(answers=True) as well,
        edge_before(tmp_path, [f"127.0.0.1:{free_port()}", well.address]) as client,
    ):
        answers = [await client.post("/v1/runs", json={}) for _ in range(3)]
        assert [answer.status_code for answer in answers] == [200] * 3
        assert len(well.requests) == 3


async def test_a_read_that_is_not_answered_goes_to_another(tmp_path: Path) -> None:
    async with (
        listening(answers=False) as broken,
        listening(answers=True) as well,
        edge_before(tmp_path, [broken.address, well.address]) as client,
    ):
        answers = [await client.get("/v1/runs") for _ in range(3)]
        assert [answer.status_code for answer in answers] == [200] * 3
        assert len(broken.requests) == 1
        assert len(well.requests) == 3


@pytest.mark.parametrize("path", ["/v1/runs", "/v1/runs/run_01/start", "/v1/session", "/v1/streams/rooms/r"])
async def test_what_is_passed_on(tmp_path: Path, path: str) -> None:
    sent = {
        "host": "runroom.example",
        "x-forwarded-for": "203.0.113.7",
        "x-forwarded-host": "evil.example",
        "x-real-ip": "203.0.113.7",
        "forwarded": "for=203.0.113.7",
        "te": "trailers",
        "proxy": "http://evil.example",
        "authorization": "Bearer t",
        "cookie": "__Host-runroom=t",
        "x-request-id": "mine-1",
        "x-workspace-id": "ws",
        "last-event-id": "3",
        "idempotency-key": "k",
        "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    }
    async with listening(answers=True) as service, edge_before(tmp_path, [service.address]) as client:
        await client.post(f"{path}?a=b%20c", headers=sent, json={})
    ((first, *lines),) = service.requests
    assert first == f"POST {path}?a=b%20c HTTP/1.1"
    passed = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
    assert len(passed) == len(lines)
    same = ("host", "authorization", "cookie", "x-request-id", "x-workspace-id", "last-event-id", "traceparent")
    assert {name: passed[name] for name in (*same, "idempotency-key")} == {
        name: sent[name] for name in (*same, "idempotency-key")
    }
    assert (passed["x-forwarded-for"], passed["x-forwarded-proto"]) == ("127.0.0.1", "https")
    assert passed.keys().isdisjoint({"x-forwarded-host", "x-real-ip", "forwarded", "te", "proxy", "connection"})


@pytest.mark.parametrize("http2", [True, False])
async def test_the_longest_token_passes_beside_what_a_browser_sends(tmp_path: Path, http2: bool) -> None:
    sent = {
        "user-agent": "u" * 200,
        "authorization": f"Bearer {'t' * 8192}",
        "cookie": f"__Host-runroom={'c' * 4081}; other={'c' * 2000}",
        "referer": f"https://localhost/?{'r' * 1000}",
    }
    query = f"cursor={'q' * 4000}"
    async with (
        listening(answers=True) as service,
        edge_before(tmp_path, [service.address], http2=http2) as client,
    ):
        answer = await client.get(f"/v1/runs?{query}", headers=sent)
        assert answer.status_code == 200
    ((first, *lines),) = service.requests
    assert first == f"GET /v1/runs?{query} HTTP/1.1"
    passed = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
    assert {name: passed[name] for name in sent} == sent


async def test_the_service_has_the_id_that_the_client_is_told(tmp_path: Path) -> None:
    async with listening(answers=True) as service, edge_before(tmp_path, [service.address]) as client:
        answers = [await client.get("/v1/runs", headers=given) for given in ({}, {"x-request-id": "two words"})]
    told = [answer.headers["x-request-id"] for answer in answers]
    passed = [line for head in service.requests for line in head if line.lower().startswith("x-request-id")]
    assert passed == [f"X-Request-Id: {one}" for one in told]
    assert len(set(told)) == 2


class Names(asyncio.DatagramProtocol):
    """A name server that knows one address (IPv4), whatever the name."""

    def __init__(self) -> None:
        self.address = ""

    def connection_made(self, transport: asyncio.DatagramTransport) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        self._transport = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        question = data[12 : data.index(0, 12) + 5]
        known = question[-4:] == bytes((0, 1, 0, 1))  # A, IN
        head = data[:2] + struct.pack("!5H", 0x8180, 1, int(known), 0, 0)
        # The name of the question, for 600 s as Docker has it.
        answer = struct.pack("!3HIH", 0xC00C, 1, 1, 600, 4) + ip_address(self.address).packed
        self._transport.sendto(head + question + (answer if known else b""), addr)


@pytest.mark.skipif(nginx_version() < LOOKS_UP_NAMES_AGAIN, reason="this nginx looks names up when it starts")
async def test_services_that_have_another_address_are_found_with_what_compose_says(tmp_path: Path) -> None:
    edge = yaml.safe_load((REPOSITORY / "docker-compose.yml").read_text())["services"]["edge"]["environment"]
    port, loop = free_port(), asyncio.get_running_loop()
    transport, names = await loop.create_datagram_endpoint(Names, ("127.0.0.1", 0))
    asked = "{}:{}".format(*transport.get_extra_info("sockname"))
    upstreams = [
        edge[name].replace("127.0.0.11", asked).replace(f"{service}:{usual}", f"{service}:{port}")
        for name, service, usual in (("EDGE_COMMAND", "command", 8001), ("EDGE_QUERY", "query", 8002))
    ]
    service = Upstream(answers=True)
    names.address = "127.0.0.2"
    try:
        async with edge_before(tmp_path, upstreams[:1], upstreams[1:]) as client:
            for names.address in ("127.0.0.2", "127.0.0.3"):
                async with await asyncio.start_server(service.take, names.address, port), asyncio.timeout(20):
                    for method in ("POST", "GET"):
                        while (await client.request(method, "/v1/runs")).status_code != 200:
                            await asyncio.sleep(0.1)
    finally:
        transport.close()
