"""Command services as real processes on real servers, a client that does not give up, and the checks of what they left.

Invariant checked here: every acknowledged command is one event; every room's numbers are gapless; the stream holds the
store's events once each, each room in order.
"""

import asyncio
import itertools
import json
import os
from collections import defaultdict
from collections.abc import AsyncGenerator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple
from uuid import uuid4

import asyncpg
import httpx

from deploy.local.ports import free_port
from deploy.local.service import Service
from shared.contracts.subjects import HEADER_EVENT_ID, HEADER_STREAM_SEQ, STREAM_SUBJECTS, room_subject
from shared.contracts.upcasting import registry
from shared.messaging.broker import Broker
from shared.messaging.direct_get import next_by_subject
from shared.messaging.stream import stream_state
from tests.support.servers import as_service

PATIENCE_SECONDS = 30.0


class Acknowledged(NamedTuple):
    run_id: str
    event_id: str
    room_id: str
    stream_seq: int


def command_service(folder: Path, dsn: str, nats_url: str, **settings: str) -> Service:
    """A command service on a free port, not started yet."""
    port = free_port()
    environment = {
        **os.environ,
        **as_service("command", nats=nats_url, EVENT_STORE_DSN=dsn),
        "COMMAND_PORT": str(port),
        "LOG_FORMAT": "json",
        **settings,
    }
    return Service("command", "services.command", port, env=environment, log_file=folder / f"command-{port}.log")


@asynccontextmanager
async def running(*services: Service) -> AsyncGenerator[None, None]:
    """The services, started and ready, and stopped at the end."""
    try:
        for service in services:
            service.start()
        for service in services:
            await asyncio.to_thread(service.wait_until_ready)
        yield
    finally:
        for service in services:
            await asyncio.to_thread(service.stop)


class Client:
    """Sends commands to any of the services, again and again under one key, until one answers."""

    def __init__(self, services: Iterable[Service], workspace_id: str) -> None:
        self._urls = itertools.cycle([service.url for service in services])
        self._http = httpx.AsyncClient(
            headers={"x-workspace-id": workspace_id}, timeout=10.0, limits=httpx.Limits(max_connections=64)
        )
        self.workspace_id = workspace_id
        self.acknowledged: list[Acknowledged] = []

    async def __aenter__(self) -> "Client":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._http.aclose()

    async def once(self, path: str, body: dict[str, Any] | bytes, key: str | None = None) -> httpx.Response:
        headers = {"content-type": "application/json"} | ({"idempotency-key": key} if key else {})
        content = body if isinstance(body, bytes) else json.dumps(body)
        return await self._http.post(f"{next(self._urls)}{path}", content=content, headers=headers)

    async def send(self, path: str, body: dict[str, Any]) -> Acknowledged:
        key = str(uuid4())
        async with asyncio.timeout(PATIENCE_SECONDS):
            while True:
                try:
                    response = await self.once(path, body, key)
                except httpx.TransportError:
                    response = None
                if response is not None and response.status_code < 300:
                    break
                assert response is None or response.status_code == 503, response.text
                await asyncio.sleep(0.05)
        answer = response.json()
        acknowledged = Acknowledged(answer["run_id"], answer["event_id"], answer["room_id"], answer["stream_seq"])
        self.acknowledged.append(acknowledged)
        return acknowledged

    async def tell_run(self, room_id: str, steps: int = 2) -> None:
        """A whole run: created, started, some steps at the same time, completed."""
        run = await self.send("/v1/runs", {"room_id": room_id})
        await self.send(f"/v1/runs/{run.run_id}/start", {})
        step = f"/v1/runs/{run.run_id}/steps"
        await asyncio.gather(*(self.send(step, {"kind": "tool"}) for _ in range(steps)))
        await self.send(f"/v1/runs/{run.run_id}/complete", {"output": {"done": True}})


async def load(client: Client, runs: int = 20, steps: int = 3) -> None:
    await asyncio.gather(*(client.tell_run(f"room_{number % 5}", steps) for number in range(runs)))


async def gauge(service: Service, name: str) -> float:
    async with httpx.AsyncClient() as http:
        lines = (await http.get(f"{service.url}/metrics")).text.splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith(f"{name} "))


@asynccontextmanager
async def locked_room(dsn: str, workspace_id: str, room_id: str) -> AsyncGenerator[None, None]:
    """Somebody else holds the room: whoever writes to it has to wait."""
    connection = await asyncpg.connect(dsn)
    try:
        async with connection.transaction():
            await connection.execute(
                "select from rooms where workspace_id = $1 and room_id = $2 for update", workspace_id, room_id
            )
            yield
    finally:
        await connection.close()


@asynccontextmanager
async def locked_rooms(dsn: str) -> AsyncGenerator[None, None]:
    """Somebody else holds the table: whoever writes to a room has to wait."""
    connection = await asyncpg.connect(dsn)
    try:
        async with connection.transaction():
            await connection.execute("lock table rooms in exclusive mode")
            yield
    finally:
        await connection.close()


async def stored_events(dsn: str) -> list[asyncpg.Record]:
    connection = await asyncpg.connect(dsn)
    try:
        return await connection.fetch(
            "select workspace_id, room_id, stream_seq, event_id::text, run_id, envelope from events"
            " order by workspace_id, room_id, stream_seq"
        )
    finally:
        await connection.close()


async def check_store(dsn: str, client: Client) -> None:
    """Every acknowledged command is one event, and every event of the workspace was acknowledged."""
    rooms: dict[str, list[int]] = defaultdict(list)
    chains: dict[str, str | None] = {}
    stored: set[Acknowledged] = set()
    for row in await stored_events(dsn):
        if row["workspace_id"] != client.workspace_id:
            continue
        rooms[row["room_id"]].append(row["stream_seq"])
        stored.add(Acknowledged(row["run_id"], row["event_id"], row["room_id"], row["stream_seq"]))
        event = registry.decode(row["envelope"])
        assert (event.event_id, event.stream_seq) == (row["event_id"], row["stream_seq"])
        assert event.causation_id == chains.get(event.run_id), "a run's events are one chain"
        chains[event.run_id] = event.event_id
    assert len(client.acknowledged) == len(set(client.acknowledged))
    assert stored == set(client.acknowledged)
    for room_id, numbers in rooms.items():
        assert numbers == list(range(1, len(numbers) + 1)), room_id


async def check_stream(dsn: str, nats_url: str, within: float = PATIENCE_SECONDS) -> int:
    """Waits until the stream holds everything, then compares it with the store. Gives the stream's epoch."""
    expected: dict[tuple[str, str], list[tuple[int, str, bytes]]] = defaultdict(list)
    for row in await stored_events(dsn):
        room = (row["workspace_id"], row["room_id"])
        expected[room].append((row["stream_seq"], row["event_id"], row["envelope"]))
    total = sum(len(events) for events in expected.values())
    broker = Broker(nats_url, name="check")
    broker.start()
    try:
        async with asyncio.timeout(within):
            await broker.wait_connected()
            while (state := await stream_state(broker)) is None or state.last_seq < total:
                await asyncio.sleep(0.05)
        found: dict[tuple[str, str], list[tuple[int, str, bytes]]] = defaultdict(list)
        position = 0
        while messages := await next_by_subject(broker, STREAM_SUBJECTS, position + 1, 1000):
            for message in messages:
                _, _, workspace_id, room_id = message.subject.split(".")
                event = (int(message.headers[HEADER_STREAM_SEQ]), message.headers[HEADER_EVENT_ID], message.data)
                found[workspace_id, room_id].append(event)
            position = messages[-1].position
        assert found == expected
        return state.identity.epoch
    finally:
        await broker.close()


async def check_published(dsn: str, nats_url: str, workspace_id: str, within: float = PATIENCE_SECONDS) -> None:
    """Waits until the store has it that the workspace's rooms are published, and compares them with the stream."""
    connection = await asyncpg.connect(dsn)
    try:
        async with asyncio.timeout(within):
            while await connection.fetchval(
                "select count(*) from rooms where workspace_id = $1 and published_seq < last_seq", workspace_id
            ):
                await asyncio.sleep(0.05)
        expected = await connection.fetch(
            "select room_id, event_id::text from events where workspace_id = $1 order by room_id, stream_seq",
            workspace_id,
        )
    finally:
        await connection.close()
    found: list[tuple[str, str]] = []
    async with Broker(nats_url, name="check") as broker:
        broker.start()
        await broker.wait_connected()
        for room_id in sorted({row["room_id"] for row in expected}):
            position = 0
            while messages := await next_by_subject(broker, room_subject(workspace_id, room_id), position + 1, 1000):
                ids = [message.headers.get(HEADER_EVENT_ID) for message in messages]
                found += [(room_id, event_id) for event_id in ids if event_id is not None]
                position = messages[-1].position
    assert found == [tuple(row) for row in expected]
