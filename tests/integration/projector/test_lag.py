"""Lag in events and in seconds, as the metrics and the readiness tell it."""

from __future__ import annotations

import asyncio
import json
import urllib.request
from pathlib import Path

import asyncpg
import pytest

from deploy.local.ports import free_port
from shared.contracts.subjects import partition_of
from tests.integration.projector.history import RoomHistory, publish, store
from tests.integration.projector.workers import PROJECTIONS, Workers, applied
from tests.support.checks import drop_checks


@pytest.fixture
def port() -> int:
    return free_port()


def get(port: int, path: str) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
        return answer.read().decode()


async def lag(port: int, kind: str, partition: int) -> dict[str, float]:
    """Projection → its lag of the partition."""
    text = await asyncio.to_thread(get, port, "/metrics")
    found: dict[str, float] = {}
    for name in PROJECTIONS:
        prefix = f'runroom_projector_lag_{kind}{{partition="{partition}",projection="{name}"}} '
        for line in text.splitlines():
            if line.startswith(prefix):
                found[name] = float(line.removeprefix(prefix))
    return found


async def until(port: int, partition: int, expected: dict[str, float]) -> None:
    found: dict[str, float] = {}
    try:
        async with asyncio.timeout(20):
            while (found := await lag(port, "events", partition)) != expected:
                await asyncio.sleep(0.2)
    except TimeoutError:
        raise AssertionError(f"{found} instead of {expected}") from None


async def test_lag_counts_from_the_commit_and_ends_with_the_last_event_applied(
    event_store_dsn: str, projection_dsn: str, stream_url: str, tmp_path: Path, port: int
) -> None:
    history = RoomHistory("unpublished")
    history.run(steps=3)
    partition = partition_of(*history.key)
    poisoned = next(room for n in range(1000) if partition_of(*(room := RoomHistory(f"poisoned-{n}")).key) != partition)
    poisoned.garbage(b"{}")
    poisoned.run(steps=0)
    await store(event_store_dsn, [*history.events, *poisoned.events])
    await make_late(event_store_dsn, ["unpublished"], "interval '90 seconds' * stream_seq")
    workers = Workers(event_store_dsn, projection_dsn, stream_url, tmp_path)
    try:
        workers.start(PROJECTOR_PORT=str(port))
        await measured(port)
        await until(port, partition, {"runs": 6, "room_feed": 6})
        seconds = await lag(port, "seconds", partition)
        assert all(90 <= value < 120 for value in seconds.values()), seconds
        ready = json.loads(await asyncio.to_thread(get, port, "/readyz"))
        assert ready["status"] == "ok"
        assert "runs: 6 events, 9" in ready["dependencies"]["lag"]["detail"]

        await publish(stream_url, [*history.events, *poisoned.events])
        connection = await asyncpg.connect(event_store_dsn)
        await connection.execute("update rooms set published_seq = last_seq")
        await connection.close()
        await applied(projection_dsn, [history])
        await until(port, partition, {"runs": 0, "room_feed": 0})
        assert await lag(port, "seconds", partition) == {"runs": 0, "room_feed": 0}
        # A room that waits for an operator, behind a parked event, is nothing that projectors are late with.
        await parked(port, 1)
        await until(port, partition_of(*poisoned.key), {"runs": 0, "room_feed": 0})
        assert await lag(port, "seconds", partition_of(*poisoned.key)) == {"runs": 0, "room_feed": 0}
        poisoned.run(steps=0)
        await store(event_store_dsn, poisoned.events[-3:])
        await publish(stream_url, poisoned.events[-3:])
        await applied(projection_dsn, [poisoned], projections=("room_feed",))
        await until(port, partition_of(*poisoned.key), {"runs": 0, "room_feed": 0})
    finally:
        workers.end()


async def test_a_room_before_an_event_that_cannot_be_published_is_left_out(
    event_store_dsn: str, projection_dsn: str, stream_url: str, tmp_path: Path, port: int
) -> None:
    large = RoomHistory("large")
    large.garbage(b"x" * (8 * 1024 * 1024))
    large.run(steps=0)
    partition = partition_of(*large.key)
    small = next(room for n in range(1000) if partition_of(*(room := RoomHistory(f"small-{n}")).key) == partition)
    small.run(steps=0)
    shapeless = next(room for n in range(1000) if partition_of(*(room := RoomHistory(f"no-{n}")).key) == partition)
    shapeless.run(steps=0)
    await store(event_store_dsn, [*small.events, *large.events, *shapeless.events])
    rooms = [room.key.room_id for room in (large, small, shapeless)]
    await make_late(event_store_dsn, rooms, f"interval '1 hour' * (room_id != '{small.key.room_id}')::int")
    connection = await asyncpg.connect(event_store_dsn)
    await drop_checks(connection)
    await connection.execute("update events set traceparent = '?' where room_id = $1", shapeless.key.room_id)
    await connection.close()
    workers = Workers(event_store_dsn, projection_dsn, stream_url, tmp_path)
    try:
        workers.start(PROJECTOR_PORT=str(port))
        await measured(port)
        await until(port, partition, {"runs": 3, "room_feed": 3})
        seconds = await lag(port, "seconds", partition)
        assert all(value < 600 for value in seconds.values()), seconds
    finally:
        workers.end()


async def test_events_that_the_store_does_not_have_are_not_counted(
    event_store_dsn: str, projection_dsn: str, stream_url: str, tmp_path: Path, port: int
) -> None:
    """Whoever has the key of a command service can say that there are some."""
    forged = RoomHistory("forged")
    forged.run(steps=0)
    partition = partition_of(*forged.key)
    waiting = next(room for n in range(1000) if partition_of(*(room := RoomHistory(f"later-{n}")).key) == partition)
    waiting.run(steps=0)
    await store(event_store_dsn, forged.events)
    await publish(stream_url, forged.events)
    workers = Workers(event_store_dsn, projection_dsn, stream_url, tmp_path)
    try:
        workers.start(PROJECTOR_PORT=str(port))
        await applied(projection_dsn, [forged])
        await publish(stream_url, [forged.events[-1]._replace(seq=10**17, event_id="made-up")])
        # Each may have seen to it before the other begins.
        unseen = {f'runroom_projector_behind_rooms{{projection="{name}"}} 1.0' for name in PROJECTIONS}
        async with asyncio.timeout(20):
            while unseen:
                metrics = await asyncio.to_thread(get, port, "/metrics")
                unseen -= {line for line in unseen if line in metrics}
                await asyncio.sleep(0.02)
        await store(event_store_dsn, waiting.events)
        await make_late(event_store_dsn, [waiting.key.room_id], "interval '90 seconds'")
        await until(port, partition, {"runs": 3, "room_feed": 3})
        # Nor do they hide how old others are, nor keep the next event of the room from being applied.
        seconds = await lag(port, "seconds", partition)
        assert all(90 <= value < 120 for value in seconds.values()), seconds
        later = forged.run(steps=0)
        await store(event_store_dsn, later)
        await publish(stream_url, later)
        await applied(projection_dsn, [forged])
        await until(port, partition, {"runs": 3, "room_feed": 3})
    finally:
        workers.end()


async def test_rooms_whose_next_event_is_not_there_are_told(
    event_store_dsn: str, projection_dsn: str, stream_url: str, tmp_path: Path, port: int
) -> None:
    """What comes behind it is shown nowhere, however new it is. None of them is late: nobody could apply it."""
    before = RoomHistory("holed")
    before.run(steps=0)
    behind = RoomHistory("holed").created("run_behind")._replace(seq=9)
    forged = RoomHistory("not-holed")
    forged.run(steps=0)
    await store(event_store_dsn, [*before.events, *forged.events])
    await publish(stream_url, [*before.events, *forged.events])
    workers = Workers(event_store_dsn, projection_dsn, stream_url, tmp_path)
    connection = await asyncpg.connect(event_store_dsn)
    try:
        workers.start(PROJECTOR_PORT=str(port))
        await applied(projection_dsn, [before, forged])
        await holed(port, 0)
        await store(event_store_dsn, [behind], states=False)
        await connection.execute("insert into rooms values ('ws', 'made-up', 5, 5)")
        # The store knows of no such event: that is somebody's who may write to the stream alone.
        await publish(stream_url, [behind, forged.events[-1]._replace(seq=10**17, event_id="made-up")])
        await holed(port, 2)
        await until(port, partition_of(*before.key), {"runs": 0, "room_feed": 0})
        assert "event_missing" in workers.log()

        await connection.execute("set session_replication_role = replica")
        await connection.execute("delete from events where room_id = 'holed' and stream_seq = 9")
        await connection.execute("delete from rooms where room_id = 'made-up'")
        await connection.execute("update rooms set last_seq = 3, published_seq = 3 where room_id = 'holed'")
        await holed(port, 0)
        later = before.run(steps=0)
        await store(event_store_dsn, later)
        await publish(stream_url, later)
        await applied(projection_dsn, [before])
    finally:
        await connection.close()
        workers.end()


async def make_late(event_store_dsn: str, room_ids: list[str], age: str) -> None:
    """As if nothing of these rooms were published yet, and every event ``age`` old."""
    connection = await asyncpg.connect(event_store_dsn)
    await connection.execute("update rooms set published_seq = 0 where room_id = any ($1)", room_ids)
    await connection.execute("set session_replication_role = replica")
    await connection.execute(f"update events set recorded_at = now() - {age}")
    await connection.close()


async def measured(port: int) -> None:
    async with asyncio.timeout(20):
        while "runroom_projector_lag_events{" not in await asyncio.to_thread(_get_or_nothing, port):
            await asyncio.sleep(0.2)


async def holed(port: int, rooms: int) -> None:
    expected = {f'runroom_projector_holed_rooms{{projection="{name}"}} {rooms}.0' for name in PROJECTIONS}
    async with asyncio.timeout(20):
        while not expected <= set((await asyncio.to_thread(_get_or_nothing, port)).splitlines()):
            await asyncio.sleep(0.1)


async def parked(port: int, events: int) -> None:
    async with asyncio.timeout(20):
        while f'parked_events{{projection="runs"}} {events}.0' not in await asyncio.to_thread(get, port, "/metrics"):
            await asyncio.sleep(0.1)


def _get_or_nothing(port: int) -> str:
    try:
        return get(port, "/metrics")
    except OSError:
        return ""
