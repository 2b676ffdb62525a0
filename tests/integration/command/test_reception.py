"""Bodies that come slowly, from many at once: what a process holds of them is bounded, and nobody is kept out by it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from deploy.local import EmbeddedNats
from deploy.local.service import Service
from tests.integration.command.deployment import command_service, running

PATIENCE = 20.0
MIB = 1024 * 1024
BODY = json.dumps({"room_id": "room", "input": {"text": "x" * 700_000}}).encode()
REFUSED = "runroom_http_arriving_refused_total"
WHOLE = {"content-type": "application/json", "content-length": str(len(BODY))}


class Sender:
    """A client that has sent most of a body, and the rest when it is told to."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self._rest = asyncio.Event()
        self._request = asyncio.create_task(http.post("/v1/runs", content=self._pieces(), headers=WHOLE))

    async def finish(self) -> httpx.Response:
        self._rest.set()
        async with asyncio.timeout(PATIENCE):
            return await self._request

    def leave(self) -> None:
        self._request.cancel()

    async def _pieces(self) -> AsyncIterator[bytes]:
        yield BODY[:-1]
        await self._rest.wait()
        yield BODY[-1:]


@pytest.fixture(scope="module")
async def command(
    event_store_dsn: str, fresh_nats: EmbeddedNats, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Service]:
    folder = tmp_path_factory.mktemp("logs")
    service = command_service(folder, event_store_dsn, fresh_nats.url, INTAKE_MEGABYTES="2")
    async with running(service):
        yield service
    assert "request_crashed" not in service.log_file.read_text()


@asynccontextmanager
async def client(command: Service) -> AsyncGenerator[httpx.AsyncClient, None]:
    async with httpx.AsyncClient(
        base_url=f"http://127.0.0.1:{command.port}", trust_env=False, timeout=PATIENCE, limits=httpx.Limits()
    ) as http:
        yield http


async def metrics(http: httpx.AsyncClient) -> dict[str, float]:
    samples = [line.rsplit(" ", 1) for line in (await http.get("/metrics")).text.splitlines() if line[0] != "#"]
    return {name: float(value) for name, value in samples if "_arriving_" in name}


async def until_held(http: httpx.AsyncClient, size: int) -> None:
    async with asyncio.timeout(PATIENCE):
        while (await metrics(http))["runroom_http_arriving_bytes"] != size:
            await asyncio.sleep(0.02)


def is_overloaded(answer: httpx.Response) -> dict[str, Any]:
    assert (answer.status_code, answer.json()["error"]) == (503, "overloaded")
    assert answer.headers["retry-after"] == "1"
    return answer.json()


async def test_a_body_that_comes_slowly_is_a_command_when_it_is_whole(command: Service) -> None:
    async with client(command) as http:
        sender = Sender(http)
        await until_held(http, len(BODY) - 1)
        assert (await sender.finish()).status_code == 201
        await until_held(http, 0)


async def test_who_sends_slowest_makes_way_and_nobody_else(command: Service) -> None:
    async with client(command) as http:
        refused = (await metrics(http))[REFUSED]
        slowest, *others = [await _sending(http, number) for number in range(1, 4)]
        await asyncio.sleep(0.3)  # longer than anybody may keep all that is held
        quick = Sender(http)
        async with asyncio.timeout(PATIENCE):
            while (await metrics(http))[REFUSED] == refused:
                await asyncio.sleep(0.02)
        is_overloaded(await slowest.finish())
        for sender in (quick, *others):
            assert (await sender.finish()).status_code == 201
        await until_held(http, 0)
        assert (await metrics(http))[REFUSED] == refused + 1


async def test_many_at_once_are_held_within_the_limit_and_small_bodies_come_in(command: Service) -> None:
    async with client(command) as http:
        senders = [Sender(http) for _ in range(40)]
        most = 0.0
        for number in range(20):
            answer = await http.post("/v1/runs", json={"room_id": f"small-{number}"})
            assert answer.status_code == 201
            most = max(most, (await metrics(http))["runroom_http_arriving_bytes"])
            await asyncio.sleep(0.02)
        assert MIB < most < 2 * MIB + len(BODY)
        answers = [await sender.finish() for sender in senders]
        assert {answer.status_code for answer in answers} <= {201, 503}
        for answer in answers:
            if answer.status_code == 503:
                is_overloaded(answer)
        assert [answer.status_code for answer in answers].count(503) >= 35
        await until_held(http, 0)


async def test_who_leaves_is_held_no_longer(command: Service) -> None:
    async with client(command) as http:
        async with client(command) as leaving:
            sender = Sender(leaving)
            await until_held(http, len(BODY) - 1)
            sender.leave()
        await until_held(http, 0)


async def test_bodies_that_take_long_to_read_do_not_stop_the_others(command: Service) -> None:
    """Sixteen become whole at once, with a question right after them: it is answered before all of them are read."""
    body = b'{"room_id":"room","title":"\\u0000","input":{"a":[%b0]}}' % (b"[]," * 33_000)
    head = b"POST /v1/runs HTTP/1.1\r\nHost: c\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(
        body
    )
    async with client(command) as http:
        before = _refused_posts((await http.get("/metrics")).text)
        connections = [await asyncio.open_connection("127.0.0.1", command.port) for _ in range(17)]
        try:
            *senders, (answers, asker) = connections
            for number, (_, writer) in enumerate(senders, 1):
                writer.write(head + body[:-1])
                await until_held(http, number * (len(body) - 1))
            for _, writer in senders:
                writer.write(body[-1:])
            asker.write(b"GET /metrics HTTP/1.1\r\nHost: c\r\nConnection: close\r\n\r\n")
            async with asyncio.timeout(PATIENCE):
                answer = (await answers.read()).decode()
                for reader, _ in senders:
                    assert (await reader.readline()).startswith(b"HTTP/1.1 400 ")
            assert _refused_posts(answer) - before < len(senders)
        finally:
            for _, writer in connections:
                writer.close()


def _refused_posts(page: str) -> float:
    for line in page.splitlines():
        if line.startswith("runroom_http_request_seconds_count") and 'route="POST /v1/runs"' in line and "4xx" in line:
            return float(line.rsplit(" ", 1)[1])
    return 0.0


async def _sending(http: httpx.AsyncClient, number: int) -> Sender:
    sender = Sender(http)
    await until_held(http, number * (len(BODY) - 1))
    return sender
