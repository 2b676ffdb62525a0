"""The relay: whatever dies or comes back older, the stream ends up equal to the store."""

import asyncio
import os
import shutil
import signal
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4

import asyncpg
import httpx
import pytest

from deploy.local import EmbeddedNats, EmbeddedPostgres
from deploy.local.ports import free_port
from deploy.local.service import Service
from services.command.relay import heads, outbox
from services.command.relay.relay import Relay, RelaySettings
from shared.contracts.ids import RoomKey
from shared.contracts.subjects import HEADER_EVENT_ID, HEADER_STREAM_SEQ, room_subject
from shared.messaging.broker import Broker
from shared.messaging.client import Outgoing
from shared.messaging.direct_get import next_by_subject
from shared.messaging.stream import StreamSettings, StreamState, stream_state
from shared.postgres import Connection, migrate
from tests.integration.command.deployment import (
    Client,
    check_published,
    check_store,
    check_stream,
    command_service,
    gauge,
    load,
    locked_room,
    running,
)
from tests.integration.privileges import connected
from tests.support.checks import drop_checks
from tests.support.servers import CUTS_AT_8_MB, EVENT_STORE_MIGRATIONS, as_role, reload, running_nats


async def test_commands_go_on_without_the_broker_and_the_stream_catches_up(
    dsn: str, nats: EmbeddedNats, tmp_path: Path
) -> None:
    service = command_service(tmp_path, dsn, nats.url)
    async with running(service), Client([service], "ws") as client:
        await load(client, 5)
        await asyncio.to_thread(nats.kill)
        await load(client)
        assert service.is_ready()
        await asyncio.to_thread(nats.start)
        await load(client, 5)
        await check_store(dsn, client)
        assert await check_stream(dsn, nats.url) == 0


async def test_a_service_that_starts_without_a_broker_publishes_once_there_is_one(
    dsn: str, nats: EmbeddedNats, tmp_path: Path
) -> None:
    await asyncio.to_thread(nats.stop)
    service = command_service(tmp_path, dsn, nats.url)
    async with running(service), Client([service], "ws") as client:
        await load(client, 5)
        await asyncio.to_thread(nats.start)
        await check_stream(dsn, nats.url)


async def test_a_room_that_somebody_keeps_locked_holds_up_no_other_and_is_not_published_twice(
    dsn: str, nats: EmbeddedNats, tmp_path: Path
) -> None:
    service = command_service(tmp_path, dsn, nats.url)
    async with running(service), Client([service], "ws") as client:
        await load(client, 5)
        await asyncio.to_thread(nats.kill)
        await client.tell_run("held")
        async with locked_room(dsn, "ws", "held"):
            await asyncio.to_thread(nats.start)
            for _ in range(2):
                await load(client, 5)
                await check_stream(dsn, nats.url, within=5.0)
                # Whoever leads next finds what is published and not recorded.
                await asyncio.to_thread(service.kill)
                service.start()
                await asyncio.to_thread(service.wait_until_ready)
            await load(client, 5)
        await client.tell_run("held")
        await load(client, 5)
        await check_store(dsn, client)
        assert await check_stream(dsn, nats.url) == 0
        async with asyncio.timeout(5):
            while await unrecorded(dsn):
                await asyncio.sleep(0.05)


async def unrecorded(dsn: str) -> int:
    connection = await asyncpg.connect(dsn)
    try:
        return await connection.fetchval("select count(*) from rooms where published_seq < last_seq")
    finally:
        await connection.close()


async def test_what_others_write_to_the_stream_does_no_harm(dsn: str, nats: EmbeddedNats, tmp_path: Path) -> None:
    """Messages without a position, with one that is none, on subjects that are no room's, with headers that are none or
    look like the end of an answer: nobody stumbles over them."""
    service = command_service(tmp_path, dsn, nats.url)
    async with running(service), Client([service], "ws") as client:
        await load(client, 5)
        stranger = Broker(nats.url, name="stranger")
        stranger.start()
        await stranger.wait_connected()
        for subject, headers in (
            ("rooms.1.x.y", None),
            ("rooms.x", {HEADER_STREAM_SEQ: "1"}),
            (room_subject("ws", "room_1"), {HEADER_STREAM_SEQ: "abc"}),
            (room_subject("ws", "room_2"), {HEADER_STREAM_SEQ: "9" * 5000}),
            (room_subject("ws", "room_3"), {HEADER_STREAM_SEQ: "\u00b2"}),
        ):
            await stranger.client.publish(subject, b"garbage", headers=headers)
            await load(client, 5)
        for block in (
            b"X 503\r\n\r\n",
            b"NATS/2.0 204 EOB\r\nNats-UpTo-Sequence: abc\r\n\r\n",
            b"NATS/1.0 204 ..",
            b"NATS/1.0\r\n%b: \0\r\n%b: 1\r\n\r\n" % (HEADER_EVENT_ID.encode(), HEADER_STREAM_SEQ.encode()),
        ):
            await stranger.client.request_all([Outgoing("rooms.0.ws_z.nobodys", block, b"garbage")], 5)
            await load(client, 5)
        await stranger.close()
        await asyncio.to_thread(service.kill)
        service.start()
        await load(client, 5)
        await check_store(dsn, client)
        async with asyncio.timeout(10):
            while await unrecorded(dsn):
                await asyncio.sleep(0.05)


async def test_a_room_of_which_the_stream_holds_other_events_waits_and_the_others_go_on(
    dsn: str, nats: EmbeddedNats, tmp_path: Path
) -> None:
    """As when the event store is an older copy of what it was: its next event has a number that is taken."""
    service = command_service(tmp_path, dsn, nats.url)
    async with running(service), Client([service], "ws") as client:
        await load(client, 5)
        await check_stream(dsn, nats.url)
        last = max(done.stream_seq for done in client.acknowledged if done.room_id == "room_1")
        stranger = Broker(nats.url, name="stranger")
        stranger.start()
        await stranger.wait_connected()
        headers = {HEADER_STREAM_SEQ: str(last + 1), HEADER_EVENT_ID: str(uuid4())}
        await stranger.client.publish(room_subject("ws", "room_1"), b"of another life", headers=headers)
        await stranger.close()

        async def only_that_room_waits() -> None:
            await load(client, 5)
            await check_store(dsn, client)
            async with asyncio.timeout(10):
                while await unrecorded(dsn) != 1 or await gauge(service, "runroom_relay_stranger_rooms") != 1:
                    await asyncio.sleep(0.05)

        await only_that_room_waits()
        await asyncio.to_thread(service.kill)
        service.start()
        await only_that_room_waits()
        # The store is the truth: without that stream another is filled from it.
        await asyncio.to_thread(nats.stop)
        shutil.rmtree(nats.data_dir / "jetstream")
        await asyncio.to_thread(nats.start)
        await load(client, 5)
        await check_stream(dsn, nats.url)
        assert await gauge(service, "runroom_relay_stranger_rooms") == 0


@pytest.mark.parametrize("change", ["authorization { user: somebody, password: else }", "max_payload: 2048"])
async def test_a_broker_that_refuses_what_it_took_before_is_found_again(
    dsn: str, nats: EmbeddedNats, tmp_path: Path, change: str
) -> None:
    """Credentials are changed, or limits, and changed back: nobody has to be started again."""
    services = [command_service(tmp_path, dsn, nats.url) for _ in range(2)]
    async with running(*services), Client(services, "ws") as client:
        await load(client, 5)
        config = nats.data_dir / "nats.conf"
        before = config.read_text()
        reload(nats, before.replace("max_payload: 8MB", "") + f"{change}\n")
        await client.send("/v1/runs", {"room_id": "big", "title": "x" * 20_000})
        await load(client, 5)
        await asyncio.sleep(1.0)
        reload(nats, before)
        await load(client, 5)
        await check_store(dsn, client)
        await check_stream(dsn, nats.url)


async def test_a_room_before_an_event_that_the_broker_does_not_take_waits_without_counting_as_late(
    dsn: str, nats: EmbeddedNats, tmp_path: Path
) -> None:
    """What is before that event is published; when the broker takes it, the rest is."""
    config = nats.data_dir / "nats.conf"
    before = config.read_text()
    reload(nats, before.replace("max_payload: 8MB", "max_payload: 4096"))
    alone = command_service(tmp_path, dsn, f"nats://127.0.0.1:{free_port()}")
    async with running(alone), Client([alone], "ws") as client:
        for title in ("small", "x" * 20_000, "small"):
            await client.send("/v1/runs", {"room_id": "big", "title": title})
    service = command_service(tmp_path, dsn, nats.url)
    async with running(service), Client([service], "ws2") as client:
        await until_gauge(service, "runroom_relay_oversize_rooms", 1)
        await load(client, 5)
        async with asyncio.timeout(20):
            while (await published(dsn, "big"), await unrecorded(dsn)) != (1, 1):
                await asyncio.sleep(0.05)
        await until_gauge(service, "runroom_relay_unpublished_rooms", 1)
        await until_gauge(service, "runroom_relay_unpublished_seconds", 0)
        reload(nats, before)
        await check_stream(dsn, nats.url)


POISON = "a poisoned workspace"
"""Sorts before the others."""


async def test_whatever_stands_in_the_store_only_its_room_waits(dsn: str, nats: EmbeddedNats, tmp_path: Path) -> None:
    """Rows that no command writes: they make no subject or no headers, are too large, or are not there at all."""
    trace = f"00-{'1' * 32}-{'2' * 16}-01"
    rows = [
        (POISON, "r", 1, "run.created", None, b"{}"),
        ("a.b", "r", 1, "run.created", None, b"{}"),
        ("a", "*", 1, "run.created", None, b"{}"),
        ("a", "", 1, "run.created", None, b"{}"),
        ("a", "x\r\nPUB x 1\r\ny", 1, "run.created", None, b"{}"),
        ("a", "r" * 5000, 1, "run.created", None, b"{}"),
        ("a", "type_1", 1, "run\r\ncreated", None, b"{}"),
        ("a", "type_2", 1, "r" * 5000, None, b"{}"),
        ("a", "type_3", 1, "", None, b"{}"),
        ("a", "trace_1", 1, "run.created", f"{trace}\r\nNats-Rollup: all", b"{}"),
        ("a", "trace_2", 1, "run.created", "x" * 5_000_000, b"{}"),
        ("a", "trace_3", 1, "run.created", "", b"{}"),
        ("a", "envelope", 1, "run.created", None, b"x" * 9_000_000),
        ("a", "number", 10**18, "run.created", None, b"{}"),
        ("a", "after", 1, "run.created", "?", b"{}"),
        *[("a", "after", number, "run.created", None, b"{}") for number in range(2, 1100)],
        *[("a", f"missing_{number}", 1, None, None, b"") for number in range(1200)],
    ]
    rooms = {(workspace_id, room_id): seq for workspace_id, room_id, seq, *_ in rows}
    service = command_service(tmp_path, dsn, nats.url)
    async with running(service), Client([service], "ws") as client:
        await load(client, 5)
        await insert_unchecked(dsn, rows, rooms)
        await until_gauge(service, "runroom_relay_oversize_rooms", len(rooms))
        await load(client, 5)
        await client.tell_run("another")
        await check_published(dsn, nats.url, "ws", within=5.0)
        await until_gauge(service, "runroom_relay_unpublished_seconds", 0)
        # Whoever leads next finds them first, and has the stream to fill.
        await asyncio.to_thread(service.kill)
        await asyncio.to_thread(nats.stop)
        shutil.rmtree(nats.data_dir / "jetstream")
        await asyncio.to_thread(nats.start)
        service.start()
        await filled_stream(nats)
        await load(client, 5)
        await client.tell_run("yet_another")
        await check_published(dsn, nats.url, "ws", within=10.0)
        await until_gauge(service, "runroom_relay_unpublished_seconds", 0)
        assert "relay ended" not in service.log_file.read_text()
        assert await gauge(service, "runroom_relay_fenced_total") == 0
        connection = await asyncpg.connect(dsn)
        await connection.execute("set session_replication_role = replica; delete from rooms where workspace_id < 'b'")
        await connection.close()
        await until_gauge(service, "runroom_relay_oversize_rooms", 0)


async def test_a_room_that_is_written_to_waits_for_no_round(
    dsn: str, nats: EmbeddedNats, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many others count an event that is not there: as many here as a page has, which never ends."""
    read = outbox.read_unpublished

    async def read_first_page(connection: Connection, _after: RoomKey, *limits: int) -> outbox.Unpublished:
        return await read(connection, outbox.START, *limits)

    monkeypatch.setattr(outbox, "read_unpublished", read_first_page)
    await insert_unchecked(dsn, [], {("a", f"missing_{number}"): 1 for number in range(1000)})
    async with Broker(nats.url, name="relay") as broker:
        relay = Relay(RelaySettings(dsn, StreamSettings(1, 86400 * 30)), broker)
        broker.start()
        work = asyncio.create_task(relay.run())
        try:
            await broker.wait_connected()
            async with asyncio.timeout(20):
                while await stream_state(broker) is None:
                    await asyncio.sleep(0.05)
            service = command_service(tmp_path, dsn, nats.url)
            async with running(service), Client([service], "ws") as client:
                await load(client, 5)
                await check_published(dsn, nats.url, "ws", within=20.0)
                await load(client, 5)
                assert await check_stream(dsn, nats.url) == 0
                assert await gauge(service, "runroom_relay_leader") == 0
        finally:
            work.cancel()


async def test_nothing_behind_a_hole_is_published(dsn: str, nats: EmbeddedNats, tmp_path: Path) -> None:
    """However many commands come behind it, and whatever is before it."""
    alone = command_service(tmp_path, dsn, f"nats://127.0.0.1:{free_port()}")
    async with running(alone), Client([alone], "ws") as client:
        for _ in range(3):
            await client.send("/v1/runs", {"room_id": "waiting"})
            await client.send("/v1/runs", {"room_id": "published"})
        await skip_numbers(dsn, "waiting", 2)
        assert (await client.send("/v1/runs", {"room_id": "waiting"})).stream_seq == 6
    service = command_service(tmp_path, dsn, nats.url)
    async with running(service), Client([service], "ws") as client:
        await until_gauge(service, "runroom_relay_oversize_rooms", 1)
        await skip_numbers(dsn, "published", 3)
        await until_gauge(service, "runroom_relay_oversize_rooms", 2)
        for room_id, number in (("waiting", 7), ("published", 7)):
            assert (await client.send("/v1/runs", {"room_id": room_id})).stream_seq == number
        await client.send("/v1/runs", {"room_id": "another"})
        async with asyncio.timeout(20):
            while await published(dsn, "another") != 1:
                await asyncio.sleep(0.05)
        # The relay has been past the others since.
        assert await numbers_on_stream(nats, "ws", "waiting") == [1, 2, 3]
        assert await numbers_on_stream(nats, "ws", "published") == [1, 2, 3]
        assert await gauge(service, "runroom_relay_oversize_rooms") == 2
        await until_gauge(service, "runroom_relay_unpublished_rooms", 2)
        # As if somebody had set it back: the next number is taken, which is no fault of who asks for it.
        await skip_numbers(dsn, "published", -1)
        refused = await client.once("/v1/runs", {"room_id": "published"})
        assert (refused.status_code, refused.json()["error"]) == (503, "store_unavailable")
        assert refused.json()["detail"].endswith("has put a number of the room right")
        assert "retry-after" in refused.headers
        # And as if a run had been where no run comes.
        run = await client.send("/v1/runs", {"room_id": "another"})
        async with connected(dsn) as connection:
            await connection.execute("update runs set version = 1073741823 where run_id = $1", run.run_id)
        await skip_numbers(dsn, "another", 1)  # so that it is not taken for what it was
        refused = await client.once(f"/v1/runs/{run.run_id}/start", {})
        assert (refused.status_code, refused.json()["error"]) == (503, "store_unavailable")
        async with asyncio.timeout(20):
            while (log := service.log_file.read_text()).count("room_misnumbered") < 2:
                await asyncio.sleep(0.05)
        first, second = (line for line in log.splitlines() if "room_misnumbered" in line)
        assert "published" in first
        assert "another" in second
        assert run.run_id in second
        assert "correlation" not in second


async def skip_numbers(dsn: str, room_id: str, by: int) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute("update rooms set last_seq = last_seq + $2 where room_id = $1", room_id, by)
    finally:
        await connection.close()


async def numbers_on_stream(nats: EmbeddedNats, workspace_id: str, room_id: str) -> list[int]:
    """Of the room's events, in the order they stand there."""
    async with Broker(nats.url, name="check") as broker:
        broker.start()
        await broker.wait_connected()
        messages = await next_by_subject(broker, room_subject(workspace_id, room_id), 1, 1000)
    return [int(message.headers[HEADER_STREAM_SEQ]) for message in messages]


async def insert_unchecked(dsn: str, rows: list[tuple[Any, ...]], rooms: dict[tuple[str, str], int]) -> None:
    """As if the store's own checks were not there; an event without a type is left out."""
    connection = await asyncpg.connect(dsn)
    try:
        await drop_checks(connection)
        await connection.executemany(
            "insert into events (workspace_id, room_id, stream_seq, event_id, run_id, event_type, event_version,"
            " recorded_at, traceparent, envelope) values ($1, $2, $3, gen_random_uuid(), 'run', $4, 1, now(), $5, $6)",
            [row for row in rows if row[3] is not None],
        )
        await connection.executemany(
            "insert into rooms (workspace_id, room_id, last_seq) values ($1, $2, $3)",
            [(*room, last_seq) for room, last_seq in rooms.items()],
        )
    finally:
        await connection.close()


async def set_published(dsn: str, room_id: str, seq: int) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute("update rooms set published_seq = $2 where room_id = $1", room_id, seq)
    finally:
        await connection.close()


@pytest.mark.parametrize("seq", [0, 2])
async def test_a_room_that_is_set_back_stops_no_other_and_is_not_published_twice(
    dsn: str, nats: EmbeddedNats, tmp_path: Path, seq: int
) -> None:
    service = command_service(tmp_path, dsn, nats.url)
    async with running(service), Client([service], "ws") as client:
        await load(client, 5)
        await check_stream(dsn, nats.url)
        # Known to the leader, and to one that has yet to learn of it.
        for restarts in (False, True):
            if restarts:
                await asyncio.to_thread(service.stop)
                # The stream knows for two minutes what it has; then it would take it again.
                await forget_published(nats)
            await set_published(dsn, "room_1", seq)
            if restarts:
                service.start()
            for number in range(5):
                await client.tell_run(f"other_{number}")
            await check_published(dsn, nats.url, "ws", within=5.0)
            await client.tell_run("room_1")
            assert await check_stream(dsn, nats.url) == 0


@pytest.mark.parametrize("strays", [1, 50])
async def test_what_ends_with_no_event_is_not_published_twice(
    dsn: str, nats: EmbeddedNats, tmp_path: Path, strays: int
) -> None:
    service = command_service(tmp_path, dsn, nats.url)
    async with running(service), Client([service], "ws") as client:
        await load(client, 5)
        await check_stream(dsn, nats.url)
        await asyncio.to_thread(service.stop)
        await forget_published(nats)
        async with Broker(nats.url, name="test") as broker:
            broker.start()
            await broker.wait_connected()
            for room in ("room_1", "room_2"):
                for _ in range(strays):
                    await broker.client.publish(room_subject("ws", room), b"no event")
            await broker.client.flush()
        await set_published(dsn, "room_1", 0)
        await set_published(dsn, "room_2", 2)
        service.start()
        await asyncio.to_thread(service.wait_until_ready)
        await client.tell_run("room_1")
        await client.tell_run("room_2")
        await check_published(dsn, nats.url, "ws", within=5.0)


async def test_what_a_stream_held_that_is_gone_is_not_taken_for_what_the_new_one_holds(
    dsn: str, nats: EmbeddedNats, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = command_service(tmp_path, dsn, nats.url)
    async with running(service), Client([service], "ws") as client:
        await load(client, 5)
        await check_stream(dsn, nats.url)
    await set_published(dsn, "room_1", 2)

    async def find_and_lose(connection: Connection, broker: Broker, rooms: Sequence[RoomKey], position: int) -> Any:
        """By the time its answer is here, the stream is gone, and the broker was away for that."""
        found = await heads.find_heads(connection, broker, rooms, position)
        if RoomKey("ws", "room_1") in found[0]:
            asked.set()
            await asyncio.to_thread(nats.stop)
            shutil.rmtree(nats.data_dir / "jetstream")
            await asyncio.to_thread(nats.start)
            await broker.wait_connected()
        return found

    monkeypatch.setattr("services.command.relay.relay.find_heads", find_and_lose)
    asked = asyncio.Event()
    async with Broker(nats.url, name="relay") as broker:
        relay = Relay(RelaySettings(dsn, StreamSettings(1, 86400 * 30)), broker)
        broker.start()
        work = asyncio.create_task(relay.run())
        try:
            async with asyncio.timeout(20):
                await asked.wait()
            await asyncio.sleep(0)
            async with asyncio.timeout(20):
                while not await published(dsn, "room_1") or await unrecorded(dsn):
                    await asyncio.sleep(0.05)
            await check_published(dsn, nats.url, "ws", within=10.0)
        finally:
            work.cancel()
            await asyncio.gather(work, return_exceptions=True)


async def mark(broker: Broker, config: dict[str, Any]) -> None:
    marks = {"runroom-epoch": "abc", "runroom-rewound-to": "9" * 40, "runroom-filled": "never"}
    marks = {**config["metadata"], **marks}
    await broker.jetstream("STREAM.UPDATE.ROOMS", {**config, "metadata": marks})


async def take_in_others(broker: Broker, config: dict[str, Any]) -> None:
    await broker.jetstream("STREAM.UPDATE.ROOMS", {**config, "subjects": ["rooms.>", "relay.>"]})
    await broker.client.request("relay.wake", b"nobody's")


async def let_the_last_go(broker: Broker, config: dict[str, Any]) -> None:
    await broker.jetstream("STREAM.UPDATE.ROOMS", {**config, "allow_msg_ttl": True})
    await broker.client.request("rooms.1.x.y", b"soon gone", headers={"Nats-TTL": "1s"})
    async with asyncio.timeout(10):
        while await next_by_subject(broker, "rooms.1.x.y", 1, 1):
            await asyncio.sleep(0.1)


@pytest.mark.parametrize("change", [mark, take_in_others, let_the_last_go])
@pytest.mark.parametrize("restarts", [False, True])
async def test_what_is_done_to_the_stream_does_not_stop_the_relay(
    dsn: str,
    nats: EmbeddedNats,
    tmp_path: Path,
    change: Callable[[Broker, dict[str, Any]], Awaitable[None]],
    *,
    restarts: bool,
) -> None:
    service = command_service(tmp_path, dsn, nats.url)
    async with running(service), Client([service], "ws") as client, Broker(nats.url, name="test") as broker:
        broker.start()
        await broker.wait_connected()
        await load(client, 5)
        await check_published(dsn, nats.url, "ws", within=5.0)
        stream = await broker.jetstream("STREAM.INFO.ROOMS")
        config = stream["config"]
        if restarts:
            await asyncio.to_thread(service.kill)
        await change(broker, config)
        if restarts:
            service.start()
            await asyncio.to_thread(service.wait_until_ready)
        await load(client, 5)
        await check_published(dsn, nats.url, "ws", within=10.0)
        async with asyncio.timeout(10):
            while True:
                found = (await broker.jetstream("STREAM.INFO.ROOMS"))["config"]
                names = ("runroom-epoch", "runroom-rewound-to", "runroom-filled")
                marks = [found["metadata"].get(name) for name in names]
                if (found["subjects"], marks) == (config["subjects"], ["0", "0", f"{stream['created']}/0"]):
                    break
                await asyncio.sleep(0.1)


MOST = 2**53 - 1
FAR = 2**63 - 1
STARTS = 'runroom_relay_reconciliations_total{cause="start"}'


@pytest.mark.parametrize("is_of_before", [False, True], ids=["checked", "of before the constraint"])
async def test_whatever_its_row_says_the_relay_goes_on(
    dsn: str, nats: EmbeddedNats, tmp_path: Path, *, is_of_before: bool
) -> None:
    """The row is what whoever has the command service's password may change; marks come to be the same by its key."""
    service = command_service(tmp_path, dsn, nats.url)
    changes: list[tuple[str, tuple[int, int] | None, int]] = [
        (f"stream_position = {FAR}", None, 1),
        ("stream_created = repeat('x', 64), stream_epoch = 7, stream_position = 1", None, 1),
        (f"stream_epoch = {MOST}, stream_position = {FAR}", None, 1),
        ("stream_epoch = stream_epoch + 1000", None, 1001),
        ("stream_epoch = 0", None, 0),
        (f"stream_epoch = {MOST - 1}, stream_position = {FAR}", (MOST - 1, FAR), MOST),
        (f"stream_epoch = {MOST}", (MOST + 1, 0), MOST),
        # The marks and the row hold no more than that.
        (f"stream_position = {FAR}", (MOST, 10**18 - 1), 0),
    ]
    if is_of_before:
        changes = [
            (f"stream_epoch = {FAR}", None, 0),
            ("stream_epoch = -5, stream_position = -5", None, 0),
            (f"stream_epoch = {FAR}, stream_position = {FAR}", (FAR, FAR), 0),
            ("stream_created = repeat('x', 10000000)", None, 0),
        ]
    async with (
        running(service),
        Client([service], "ws") as client,
        Broker(nats.url, name="test") as broker,
        connected(as_role(dsn, "runroom_command")) as thief,
    ):
        broker.start()
        await broker.wait_connected()
        if is_of_before:
            async with connected(dsn) as superuser:
                await superuser.execute("alter table relay drop constraint relay_forms")
        for change, marks, epoch in changes:
            await client.tell_run("room")
            await check_published(dsn, nats.url, "ws", within=10.0)
            if marks is not None:
                config = (await broker.jetstream("STREAM.INFO.ROOMS"))["config"]
                names = ("runroom-epoch", "runroom-rewound-to")
                config["metadata"] |= dict(zip(names, map(str, marks), strict=True))
                await broker.jetstream("STREAM.UPDATE.ROOMS", config)
            before = await gauge(service, STARTS)
            await thief.execute(f"update relay set {change}")
            await thief.execute(
                "select pg_terminate_backend(pid) from pg_stat_activity"
                " where application_name = 'runroom-command-relay' and datname = current_database()"
            )
            await client.tell_run("room")
            async with asyncio.timeout(20):
                while await gauge(service, STARTS) == before:
                    await asyncio.sleep(0.05)
            await check_published(dsn, nats.url, "ws", within=10.0)
            async with asyncio.timeout(10):
                while not (state := await stream_state(broker)) or not state.is_filled:
                    await asyncio.sleep(0.05)
            assert await check_stream(dsn, nats.url) == epoch, change
            assert await thief.fetchval("select stream_epoch from relay") == epoch, change


async def forget_published(nats: EmbeddedNats) -> None:
    async with Broker(nats.url, name="test") as broker:
        broker.start()
        await broker.wait_connected()
        config = (await broker.jetstream("STREAM.INFO.ROOMS"))["config"]
        await broker.jetstream("STREAM.UPDATE.ROOMS", {**config, "duplicate_window": 100_000_000})
        (known,) = await next_by_subject(broker, "rooms.>", 1, 1)
        async with asyncio.timeout(10):
            while True:
                headers = {HEADER_EVENT_ID: known.headers[HEADER_EVENT_ID], "Nats-Expected-Last-Sequence": "0"}
                answer = await broker.client.request(known.subject, b"", headers=headers)
                if b"duplicate" not in answer.data:
                    break
                await asyncio.sleep(0.05)


async def published(dsn: str, room_id: str) -> int:
    connection = await asyncpg.connect(dsn)
    try:
        return await connection.fetchval("select published_seq from rooms where room_id = $1", room_id)
    finally:
        await connection.close()


async def until_gauge(service: Service, name: str, expected: float) -> None:
    found = None
    try:
        async with asyncio.timeout(20):
            while (found := await gauge(service, name)) != expected:
                await asyncio.sleep(0.1)
    except TimeoutError:
        raise AssertionError(f"{name} is {found} instead of {expected}") from None


async def test_an_outage_of_the_event_store_is_said_once_and_so_is_its_end(
    fresh_postgres: EmbeddedPostgres, nats: EmbeddedNats, tmp_path: Path
) -> None:
    dsn = fresh_postgres.dsn("event_store")
    await migrate(dsn, EVENT_STORE_MIGRATIONS)
    services = [command_service(tmp_path, dsn, nats.url) for _ in range(2)]
    async with running(*services), Client(services, "ws") as client:
        await load(client, 5)
        for outages in (1, 2):
            fresh_postgres.kill()
            await asyncio.sleep(2.0)
            await asyncio.to_thread(fresh_postgres.start)
            async with asyncio.timeout(20):
                while any(
                    service.log_file.read_text().count("relay_store_available") < outages for service in services
                ):
                    await asyncio.sleep(0.05)
            await load(client, 5)
            logs = [service.log_file.read_text() for service in services]
            assert [log.count("relay_store_failed") for log in logs] == [outages, outages]
            assert [log.count("relay_store_available") for log in logs] == [outages, outages]
        await check_stream(dsn, nats.url)


async def test_a_broker_killed_under_load(dsn: str, nats: EmbeddedNats, tmp_path: Path) -> None:
    service = command_service(tmp_path, dsn, nats.url)
    async with running(service), Client([service], "ws") as client:
        loading = asyncio.create_task(load(client, 60))
        for _ in range(3):
            await asyncio.sleep(0.3)
            await asyncio.to_thread(nats.kill)
            await asyncio.to_thread(nats.start)
        await loading
        await check_store(dsn, client)
        assert await check_stream(dsn, nats.url) == 0


async def test_a_leader_killed_under_load_is_taken_over_from(dsn: str, nats: EmbeddedNats, tmp_path: Path) -> None:
    first, second = services = [command_service(tmp_path, dsn, nats.url) for _ in range(2)]
    async with running(*services), Client(services, "ws") as client:
        loading = asyncio.create_task(load(client, 60))
        for service in (first, second, first):
            await asyncio.sleep(0.3)
            await asyncio.to_thread(service.kill)
            service.start()
            await asyncio.to_thread(service.wait_until_ready)
        await loading
        await check_store(dsn, client)
        await check_stream(dsn, nats.url)


async def test_a_leader_that_stands_still_is_taken_over_from_and_does_no_harm_when_it_wakes(
    dsn: str, nats: EmbeddedNats, tmp_path: Path
) -> None:
    services = [command_service(tmp_path, dsn, nats.url) for _ in range(2)]
    async with running(*services):
        leader = await the_leader(services)
        other = services[1 - services.index(leader)]
        async with Client([leader], "ws") as client:
            loading = asyncio.create_task(load(client, 20))
            await asyncio.sleep(0.3)
            assert leader.pid is not None
            os.kill(leader.pid, signal.SIGSTOP)
            try:
                async with Client([other], "meanwhile") as another:
                    await load(another, 5)
                    await check_stream(dsn, nats.url)
                    assert await the_leader([other]) is other
            finally:
                os.kill(leader.pid, signal.SIGCONT)
            await loading
            await check_store(dsn, client)
        await check_stream(dsn, nats.url)


async def test_a_broker_that_comes_back_empty_is_filled_again(dsn: str, nats: EmbeddedNats, tmp_path: Path) -> None:
    service = command_service(tmp_path, dsn, nats.url)
    async with running(service), Client([service], "ws") as client:
        await load(client, 10)
        # More than is read or published at once.
        for _ in range(6):
            await client.send("/v1/runs", {"room_id": "large", "input": {"x": "x" * 1_000_000}})
        await check_stream(dsn, nats.url)
        count = len(client.acknowledged)
        await asyncio.to_thread(nats.stop)
        shutil.rmtree(nats.data_dir / "jetstream")
        await asyncio.to_thread(nats.start)
        assert (await filled_stream(nats)).last_seq == count
        await load(client, 5)
        await check_stream(dsn, nats.url)


THE_ROW = "select stream_created, stream_epoch, stream_position from relay"


async def test_a_room_that_somebody_keeps_locked_is_filled_in_by_itself(
    dsn: str, nats: EmbeddedNats, tmp_path: Path
) -> None:
    """Whoever leads; and the stream is not called filled before."""
    service = command_service(tmp_path, dsn, nats.url)
    async with running(service), Client([service], "ws") as client:
        await client.tell_run("held")
        held = len(client.acknowledged)
        await load(client, 5)
        await check_stream(dsn, nats.url)
        async with locked_room(dsn, "ws", "held"):
            await asyncio.to_thread(nats.stop)
            shutil.rmtree(nats.data_dir / "jetstream")
            await asyncio.to_thread(nats.start)
            for _ in range(2):
                await load(client, 5)
                state = await stream_of(nats, len(client.acknowledged) - held)
                assert not state.is_filled
                await asyncio.to_thread(service.kill)
                service.start()
                await asyncio.to_thread(service.wait_until_ready)
            await load(client, 5)
            assert not (await stream_of(nats, len(client.acknowledged) - held)).is_filled
        # Nothing is added to it first.
        await check_stream(dsn, nats.url)
        assert (await filled_stream(nats)).last_seq == len(client.acknowledged)
        await client.tell_run("held")
        await load(client, 5)
        await check_store(dsn, client)
        assert await check_stream(dsn, nats.url) == 0
        created = (await stream_of(nats, len(client.acknowledged))).identity.created
        async with connected(dsn) as connection, asyncio.timeout(10):
            while await connection.fetchrow(THE_ROW) != (created, 0, len(client.acknowledged)):
                await asyncio.sleep(0.05)


async def stream_of(nats: EmbeddedNats, length: int) -> StreamState:
    """The stream, once it has come to that."""
    async with Broker(nats.url, name="test") as broker, asyncio.timeout(20):
        broker.start()
        await broker.wait_connected()
        while (state := await stream_state(broker)) is None or state.last_seq < length:
            await asyncio.sleep(0.02)
        assert state.last_seq == length
        return state


async def test_a_broker_that_comes_back_older_with_large_events_is_given_none_twice(dsn: str, tmp_path: Path) -> None:
    """Where it stands it says in several answers, as the last events of all rooms are too much for one."""
    with running_nats(CUTS_AT_8_MB) as nats:
        store, copy = nats.data_dir / "jetstream", tmp_path / "older"
        service = command_service(tmp_path, dsn, nats.url)
        async with running(service), Client([service], "ws") as client:
            for number in range(12):
                await client.send("/v1/runs", {"room_id": f"room_{number:02}", "input": {"x": "x" * 1_000_000}})
            await check_stream(dsn, nats.url)
            await asyncio.to_thread(nats.stop)
            shutil.copytree(store, copy)
            await asyncio.to_thread(nats.start)
            await client.send("/v1/runs", {"room_id": "small"})
            await check_stream(dsn, nats.url)
            await asyncio.to_thread(nats.kill)
            shutil.rmtree(store)
            shutil.copytree(copy, store)
            await asyncio.to_thread(nats.start)
            await check_stream(dsn, nats.url)


@pytest.mark.parametrize("while_away", [False, True])
async def test_a_broker_that_comes_back_older_is_filled_up_and_marked(
    dsn: str, nats: EmbeddedNats, tmp_path: Path, *, while_away: bool
) -> None:
    store, copy = nats.data_dir / "jetstream", tmp_path / "older"
    service = command_service(tmp_path, dsn, nats.url)
    async with running(service), Client([service], "ws") as client:
        await load(client, 10)
        await check_stream(dsn, nats.url)
        await asyncio.to_thread(nats.stop)
        shutil.copytree(store, copy)
        await asyncio.to_thread(nats.start)
        await load(client, 10)
        await check_stream(dsn, nats.url)
        if while_away:  # the relay finds out at its next start, not at a reconnect
            await asyncio.to_thread(service.stop)
        await asyncio.to_thread(nats.kill)
        shutil.rmtree(store)
        shutil.copytree(copy, store)
        await asyncio.to_thread(nats.start)
        count = len(client.acknowledged)
        if while_away:
            service.start()
            await asyncio.to_thread(service.wait_until_ready)
        filled = await filled_stream(nats, epoch=1)
        assert filled.last_seq == count
        await load(client, 5)
        assert await check_stream(dsn, nats.url) == 1


async def filled_stream(nats: EmbeddedNats, epoch: int = 0) -> StreamState:
    """The stream as it is when it is first seen to be filled in that epoch."""
    async with Broker(nats.url, name="test") as broker, asyncio.timeout(20):
        broker.start()
        await broker.wait_connected()
        while (state := await stream_state(broker)) is None or state.identity.epoch != epoch or not state.is_filled:
            await asyncio.sleep(0.001)
        return state


async def the_leader(services: list[Service]) -> Service:
    async with httpx.AsyncClient() as http, asyncio.timeout(10):
        while True:
            for service in services:
                metrics = (await http.get(f"{service.url}/metrics")).text
                if "runroom_relay_leader 1.0" in metrics:
                    return service
            await asyncio.sleep(0.05)
