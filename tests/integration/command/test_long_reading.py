"""The relay's leader, where what it has to read of the stream takes longer than its lease lasts."""

import asyncio
import os
import signal
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import pytest

from deploy.local import EmbeddedNats
from deploy.local.ports import free_port
from deploy.local.service import Service
from services.command.relay.outbox import find_kept, reset_published
from services.command.relay.recount import Recount
from shared.contracts.ids import RoomKey
from shared.contracts.subjects import HEADER_EVENT_ID, HEADER_STREAM_SEQ, room_subject
from shared.messaging.broker import Broker, BrokerUnavailableError
from shared.messaging.direct_get import next_by_subject
from shared.messaging.stream import StreamSettings, ensure_stream
from tests.integration.command.deployment import Client, check_published, command_service, gauge, running
from tests.integration.privileges import connected
from tests.support.proxy import Proxy, running_proxy, through

SLOW = 0.02
"""Seconds that each 64 KiB take longer: a megabyte a third of one, and 16 of them longer than a lease lasts."""
LARGE = "x" * 1_000_000
ROOMS = [f"room_{number:02}" for number in range(16)]
STRAYS = 64
STRAY_BYTES = 250_000


@pytest.fixture
async def proxy(nats: EmbeddedNats) -> AsyncGenerator[Proxy, None]:
    async with running_proxy(nats.port) as proxy:
        yield proxy


@asynccontextmanager
async def strange_broker(nats: EmbeddedNats) -> AsyncGenerator[Broker, None]:
    async with Broker(nats.url, name="test") as broker:
        broker.start()
        await broker.wait_connected()
        yield broker


async def publish(dsn: str, nats: EmbeddedNats, folder: Path, rooms: Sequence[str], title: str = "") -> None:
    """A run in each of the rooms."""
    service = command_service(folder, dsn, nats.url)
    async with running(service), Client([service], "ws") as client:
        for room_id in rooms:
            await client.send("/v1/runs", {"room_id": room_id, "input": {"x": title}})
        await check_published(dsn, nats.url, "ws")


async def commit(dsn: str, folder: Path, rooms: Sequence[str]) -> None:
    """A run in each of the rooms, with nobody to publish it."""
    service = command_service(folder, dsn, f"nats://127.0.0.1:{free_port()}")
    async with running(service), Client([service], "ws") as client:
        for room_id in rooms:
            await client.send("/v1/runs", {"room_id": room_id})


async def add_strays(nats: EmbeddedNats, subject: str) -> None:
    async with strange_broker(nats) as broker:
        for _ in range(STRAYS):
            await broker.client.request(subject, b"x" * STRAY_BYTES, timeout=5)


async def recorded_position(dsn: str) -> int:
    async with connected(dsn) as connection:
        return await connection.fetchval("select stream_position from relay")


async def position_behind(dsn: str, position: int) -> int:
    """The first that the relay records behind that one."""
    async with connected(dsn) as connection, asyncio.timeout(30):
        while (found := await connection.fetchval("select stream_position from relay")) <= position:
            await asyncio.sleep(0.01)
        return found


async def change(dsn: str, statement: str) -> None:
    async with connected(dsn) as connection:
        await connection.execute(statement)


async def before_a_long_tail(dsn: str, nats: EmbeddedNats, proxy: Proxy, folder: Path) -> tuple[int, Service]:
    """The position recorded before the tail, and a service, not started yet, that will be slow in reading it."""
    await publish(dsn, nats, folder, ROOMS)
    before = await recorded_position(dsn)
    await add_strays(nats, "rooms.0.ws_z.nobodys")
    await commit(dsn, folder, ROOMS)
    proxy.delay(SLOW)
    return before, command_service(folder, dsn, through(proxy, nats.url))


async def test_a_long_tail_is_read_to_its_end(dsn: str, nats: EmbeddedNats, proxy: Proxy, tmp_path: Path) -> None:
    _, leader = await before_a_long_tail(dsn, nats, proxy, tmp_path)
    async with running(leader):
        await check_published(dsn, nats.url, "ws")


async def test_where_a_leader_stands_still_while_it_reads_the_tail_another_goes_on_there(
    dsn: str, nats: EmbeddedNats, proxy: Proxy, tmp_path: Path
) -> None:
    before, leader = await before_a_long_tail(dsn, nats, proxy, tmp_path)
    async with running(leader):
        assert await position_behind(dsn, before) < before + STRAYS
        assert leader.pid is not None
        os.kill(leader.pid, signal.SIGSTOP)
        try:
            async with running(command_service(tmp_path, dsn, nats.url)):
                await check_published(dsn, nats.url, "ws")
        finally:
            os.kill(leader.pid, signal.SIGCONT)
        await publish(dsn, nats, tmp_path, ROOMS)


async def test_a_stranger_in_a_long_tail_is_found_by_every_leader(
    dsn: str, nats: EmbeddedNats, proxy: Proxy, tmp_path: Path
) -> None:
    await publish(dsn, nats, tmp_path, ["strange", "another"])
    async with strange_broker(nats) as broker:
        headers = {HEADER_STREAM_SEQ: "2", HEADER_EVENT_ID: str(uuid4())}
        await broker.client.request(room_subject("ws", "strange"), b"of another life", headers=headers)
    await add_strays(nats, "rooms.0.ws_z.nobodys")
    await commit(dsn, tmp_path, ["strange", "another"])
    for _ in range(2):
        service = command_service(tmp_path, dsn, nats.url)
        async with running(service), Client([service], "others") as client, asyncio.timeout(30):
            await client.send("/v1/runs", {"room_id": "room"})
            await check_published(dsn, nats.url, "others")
            while await gauge(service, "runroom_relay_stranger_rooms") != 1:
                await asyncio.sleep(0.05)
    async with strange_broker(nats) as broker:
        assert len(await next_by_subject(broker, room_subject("ws", "strange"), 1, 10)) == 2
        assert len(await next_by_subject(broker, room_subject("ws", "another"), 1, 10)) == 2


async def test_rooms_with_large_last_events_hold_up_neither_themselves_nor_others(
    dsn: str, nats: EmbeddedNats, proxy: Proxy, tmp_path: Path
) -> None:
    await publish(dsn, nats, tmp_path, ROOMS, LARGE)
    await commit(dsn, tmp_path, [*ROOMS, "small"])
    proxy.delay(SLOW)
    async with running(command_service(tmp_path, dsn, through(proxy, nats.url))):
        await check_published(dsn, nats.url, "ws")
    async with strange_broker(nats) as broker:
        messages = await next_by_subject(broker, "rooms.>", len(ROOMS) + 1, 1000)
        rooms = [message.subject.rpartition(".")[2] for message in messages]
    assert sorted(rooms) == [*ROOMS, "small"]
    assert rooms[-1] != "small"


async def test_rooms_that_are_set_back_are_all_asked_about_once_the_stream_has_refused_one(
    dsn: str, nats: EmbeddedNats, proxy: Proxy, tmp_path: Path
) -> None:
    await publish(dsn, nats, tmp_path, ROOMS, LARGE)
    await commit(dsn, tmp_path, ROOMS)
    await change(dsn, "update rooms set published_seq = 0 where room_id < 'room_04'")
    proxy.delay(SLOW)
    service = command_service(tmp_path, dsn, through(proxy, nats.url))
    async with running(service):
        await check_published(dsn, nats.url, "ws")
        assert await gauge(service, "runroom_relay_fenced_total") == 1


async def test_a_room_that_ends_with_much_that_is_no_event_is_looked_through(
    dsn: str, nats: EmbeddedNats, proxy: Proxy, tmp_path: Path
) -> None:
    await publish(dsn, nats, tmp_path, ["room", "room"])
    await add_strays(nats, room_subject("ws", "room"))
    await publish(dsn, nats, tmp_path, ["another"])
    await commit(dsn, tmp_path, ["room"])
    proxy.delay(SLOW)
    async with running(command_service(tmp_path, dsn, through(proxy, nats.url))):
        await check_published(dsn, nats.url, "ws")


async def test_a_long_recount_comes_to_its_end(dsn: str, nats: EmbeddedNats, proxy: Proxy, tmp_path: Path) -> None:
    await publish(dsn, nats, tmp_path, ROOMS, LARGE)
    await commit(dsn, tmp_path, ROOMS)
    await change(dsn, "update relay set stream_created = 'another'")
    proxy.delay(SLOW)
    async with running(command_service(tmp_path, dsn, through(proxy, nats.url))):
        await check_published(dsn, nats.url, "ws")


async def test_a_recount_goes_on_where_an_answer_failed_to_come(
    dsn: str, nats: EmbeddedNats, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.command.relay.recount.MOST_SUBJECTS", 2)
    settings = StreamSettings()
    async with connected(dsn) as connection, Broker(through(proxy, nats.url), name="relay") as broker:
        broker.start()
        await broker.wait_connected()
        await ensure_stream(broker, settings)
        await broker.client.request("rooms.0.ws_z.nobodys", b"")
        stream = await ensure_stream(broker, settings)
        rooms = [("ws", room_id) for room_id in ROOMS[:4]]
        await connection.executemany("insert into rooms values ($1, $2, 1, 1)", rooms)

        async def counted() -> list[int]:
            """What is published of the rooms then; the next time all of it is."""
            rows = await connection.fetch("select published_seq from rooms order by room_id")
            await connection.execute("update rooms set published_seq = 1")
            return [row["published_seq"] for row in rows]

        recount = Recount()
        proxy.hold_before(ROOMS[2].encode())
        with pytest.raises(BrokerUnavailableError):
            await recount.run(connection, broker, stream, settings)
        assert await counted() == [0, 0, 1, 1]
        proxy.release()
        await recount.run(connection, broker, stream, settings)
        assert await counted() == [1, 1, 0, 0]
        await recount.run(connection, broker, stream, settings)
        assert await counted() == [0, 0, 0, 0]


async def test_how_far_a_room_is_set_back_is_found_without_reading_all_of_it(dsn: str) -> None:
    """And is as far as the stream would keep its events, or holds them."""
    rooms = {f"room_{old}": old for old in (0, 1, 4999, 9999, 10_000)}
    async with connected(dsn) as connection:
        await connection.execute("analyze events")
        for room_id, old in rooms.items():
            await connection.execute("insert into rooms values ('ws', $1, 10000, 10000)", room_id)
            await connection.execute(
                "insert into events (workspace_id, room_id, stream_seq, event_id, run_id, event_type, event_version,"
                " recorded_at, envelope) select 'ws', $1, n, gen_random_uuid(), 'run', 'run.created', 1,"
                " case when n <= $2 then now() - interval '31 days' else now() end, '{}'"
                " from generate_series(1, 10000) as n",
                room_id,
                old,
            )
        await connection.execute("analyze")
        found = {RoomKey("ws", room_id): 0 for room_id in rooms}
        oldest_kept = datetime.now(UTC) - timedelta(days=30)
        async with connection.transaction():
            kept = await find_kept(connection, found, oldest_kept)
            assert await reset_published(connection, kept) == []
            read = await connection.fetchval(
                "select seq_tup_read + idx_tup_fetch from pg_stat_xact_user_tables where relname = 'events'"
            )
        rows = await connection.fetch("select room_id, published_seq from rooms")
        assert {row["room_id"]: row["published_seq"] for row in rows} == rooms
        assert read < 1000
        # Of what is behind what the stream holds, and of none that has come no further.
        some = dict.fromkeys(found, 5000)
        assert await find_kept(connection, some, oldest_kept) == {
            RoomKey("ws", "room_9999"): 9999,
            RoomKey("ws", "room_10000"): 10_000,
        }


async def test_a_leader_that_nobody_answers_loses_the_lease_and_finds_that_out_at_once(
    dsn: str, nats: EmbeddedNats, proxy: Proxy, tmp_path: Path
) -> None:
    """It has a connection to NATS that hangs; somebody else has another."""
    before, leader = await before_a_long_tail(dsn, nats, proxy, tmp_path)
    async with running(leader):
        await position_behind(dsn, before)
        proxy.swallow_answers()
        async with running(command_service(tmp_path, dsn, nats.url)):
            await check_published(dsn, nats.url, "ws")
        log = leader.log_file.read_text()
        # That comes later, when nobody has answered for so long.
        assert "relay_store_failed" in log.partition("relay_publish_failed")[0]
