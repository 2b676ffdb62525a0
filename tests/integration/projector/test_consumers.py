"""What somebody does to the workers' consumers, or in their places, is seen and does not last."""

from __future__ import annotations

import asyncio
import json
import re
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from deploy.local.ports import free_port
from shared.contracts.subjects import PARTITIONS, partition_filter, partition_of
from shared.messaging.broker import Broker, JetStreamError
from shared.messaging.stream import StreamSettings, ensure_stream
from tests.integration.projector.history import RoomHistory, publish, store
from tests.integration.projector.test_lag import lag, until
from tests.integration.projector.workers import Workers, applied

PATIENCE = 30.0


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.fixture
def histories(port: int) -> list[RoomHistory]:
    """A room of each partition."""
    found: dict[int, RoomHistory] = {}
    for number in range(2000):
        history = RoomHistory(f"room-{port}-{number}")
        found.setdefault(partition_of(*history.key), history)
    assert len(found) == PARTITIONS
    return list(found.values())


async def add_run(histories: list[RoomHistory], event_store_dsn: str, stream_url: str) -> None:
    for history in histories:
        before = len(history.events)
        history.run(steps=0)
        await store(event_store_dsn, history.events[before:])
        await publish(stream_url, history.events[before:])


async def names(broker: Broker) -> list[str]:
    return (await broker.jetstream("CONSUMER.NAMES.ROOMS"))["consumers"] or []


async def create(broker: Broker, name: str, filter_subject: str, action: str, config: dict[str, Any]) -> None:
    body = {"stream_name": "ROOMS", "action": action, "config": {**config, "filter_subject": filter_subject}}
    await broker.jetstream(f"CONSUMER.CREATE.ROOMS.{name}.{filter_subject}", body)


async def readiness(port: int) -> dict[str, Any]:
    def ask() -> bytes:
        try:
            return urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=5).read()
        except urllib.error.HTTPError as error:
            return error.read()

    return json.loads(await asyncio.to_thread(ask))


async def test_a_partition_without_a_consumer_is_late_and_its_projector_not_ready(
    event_store_dsn: str,
    projection_dsn: str,
    stream_url: str,
    broker: Broker,
    tmp_path: Path,
    port: int,
    histories: list[RoomHistory],
) -> None:
    most = 2 * PARTITIONS
    await ensure_stream(broker, StreamSettings(max_consumers=most))
    workers = Workers(event_store_dsn, projection_dsn, stream_url, tmp_path)
    try:
        workers.start(PROJECTOR_PORT=str(port))
        await add_run(histories, event_store_dsn, stream_url)
        await applied(projection_dsn, histories)
        taken = 0
        async with asyncio.timeout(PATIENCE):
            while taken < most:
                for name in await names(broker):
                    if name.startswith("projector-"):
                        await broker.jetstream(f"CONSUMER.DELETE.ROOMS.{name}")
                try:
                    while taken < most:
                        name = f"keep-{taken}"
                        config = {"name": name, "durable_name": name, "ack_policy": "none"}
                        await create(broker, name, partition_filter(0), "create", config)
                        taken += 1
                except JetStreamError:
                    await asyncio.sleep(0.01)
        await add_run(histories, event_store_dsn, stream_url)
        partition = partition_of(*histories[0].key)
        await until(port, partition, {"runs": 3, "room_feed": 3})
        assert all(seconds > 0 for seconds in (await lag(port, "seconds", partition)).values())
        ready = await readiness(port)
        assert ready["status"] == "failed"
        assert ready["dependencies"]["consumers"]["detail"] == "ConsumersRefusedError"
        # As they go by themselves, after a minute.
        for name in await names(broker):
            await broker.jetstream(f"CONSUMER.DELETE.ROOMS.{name}")
        await applied(projection_dsn, histories)
        await until(port, partition, {"runs": 0, "room_feed": 0})
        assert (await readiness(port))["status"] == "ok"
    finally:
        workers.end()
        await ensure_stream(broker, StreamSettings())


@pytest.mark.parametrize("headers_only", [False, True], ids=["another partition", "headers alone"])
async def test_a_consumer_that_somebody_has_changed_is_made_anew(
    event_store_dsn: str,
    projection_dsn: str,
    stream_url: str,
    broker: Broker,
    tmp_path: Path,
    port: int,
    histories: list[RoomHistory],
    *,
    headers_only: bool,
) -> None:
    workers = Workers(event_store_dsn, projection_dsn, stream_url, tmp_path)
    try:
        workers.start(PROJECTOR_PORT=str(port))
        await add_run(histories, event_store_dsn, stream_url)
        await applied(projection_dsn, histories)
        changed = [name for name in await names(broker) if name.startswith("projector-")]
        for name in changed:
            config = (await broker.jetstream(f"CONSUMER.INFO.ROOMS.{name}"))["config"]
            partition = int(re.findall(r"-(\d+)-", name)[0])
            other = partition if headers_only else (partition + 1) % PARTITIONS
            await create(broker, name, partition_filter(other), "update", {**config, "headers_only": headers_only})
        async with asyncio.timeout(PATIENCE):
            while set(changed) & set(await names(broker)):
                await add_run(histories, event_store_dsn, stream_url)
                await asyncio.sleep(0.1)
        await applied(projection_dsn, histories)
        assert "event_parked" not in workers.log()
    finally:
        workers.end()
