"""``verify`` against a real deployment: silent when all is well, and precise when something is not."""

from __future__ import annotations

import asyncio
from pathlib import Path

import asyncpg
import pytest

from deploy.local import EmbeddedNats
from deploy.local.nats import USERS_FILE
from services.projector.verify.report import Report
from services.projector.verify.rooms import Seen
from services.projector.verify.stream import StreamCheck
from shared.contracts.subjects import room_subject
from shared.messaging.broker import Broker
from shared.messaging.stream import StreamSettings, ensure_stream
from shared.postgres import connected
from tests.integration.projector.commands import command
from tests.integration.projector.history import RoomHistory, Stored, publish, store
from tests.integration.projector.workers import Workers, applied, running
from tests.support.servers import CUTS_AT_8_MB, MigratedDatabases, running_nats

SIZE = 1_000_000


@pytest.fixture(scope="module")
def workers(event_store_dsn: str, projection_dsn: str, stream_url: str, tmp_path_factory: pytest.TempPathFactory):
    with running(event_store_dsn, projection_dsn, stream_url, tmp_path_factory.mktemp("logs")) as workers:
        yield workers


async def verify(event_store: str, projections: str, nats: str) -> tuple[int, str]:
    """The exit status and what was printed."""
    return await command("verify", event_store=event_store, projections=projections, nats=nats, seconds=60)


def differences(output: str) -> set[str]:
    return {line for line in output.splitlines() if line.startswith("differs")}


async def test_a_system_at_rest_and_one_at_work_are_well(
    workers: Workers, event_store_dsn: str, projection_dsn: str, stream_url: str
) -> None:
    histories = [RoomHistory(f"well-{number}") for number in range(30)]
    for history in histories:
        for end in ("completed", "failed", None):
            history.run(end=end)
    events = [event for history in histories for event in history.events]
    await store(event_store_dsn, events)
    await publish(stream_url, events)
    await applied(projection_dsn, histories)
    status, output = await verify(event_store_dsn, projection_dsn, stream_url)
    assert (status, differences(output)) == (0, set())
    assert f"30 rooms, {len(events)} events" in output
    assert output.endswith("all is well\n")

    stop = asyncio.Event()

    async def write() -> None:
        while not stop.is_set():
            for history in histories:
                new = history.run(steps=1)
                await store(event_store_dsn, new)
                await publish(stream_url, new)

    writing = asyncio.create_task(write())
    try:
        for _ in range(3):
            status, output = await verify(event_store_dsn, projection_dsn, stream_url)
            assert (status, differences(output)) == (0, set()), output
    finally:
        stop.set()
        await writing
    await applied(projection_dsn, histories)


async def test_every_kind_of_difference_is_told_by_room(
    workers: Workers, event_store_dsn: str, projection_dsn: str, stream_url: str
) -> None:
    names = (
        "run",
        "step",
        "extra",
        "bytes",
        "lost",
        "ahead",
        "stream",
        "twice",
        "hole",
        "state",
        "tags",
        "orphan",
        "below",
    )
    rooms = {name: RoomHistory(f"bad-{name}") for name in names}
    for history in rooms.values():
        history.run()
    events = [event for history in rooms.values() for event in history.events]
    published = [event for event in events if (event.key.room_id, event.seq) != ("bad-stream", 3)]
    await store(event_store_dsn, events)
    await publish(stream_url, published)
    await publish(stream_url, [rooms["twice"].events[1]])
    await applied(projection_dsn, rooms.values())
    connection = await asyncpg.connect(projection_dsn)
    for statement in (
        "alter table proj_rooms drop constraint if exists proj_rooms_applied_forms",
        "update proj_rooms set applied_seq = -5 where room_id = 'bad-below' and projection = 'runs'",
        "update proj_runs set status = 'failed', summary = 'other' where room_id = 'bad-run'",
        "delete from proj_steps where room_id = 'bad-step' and stream_seq = 3",
        "insert into proj_runs_v1 select 'run_extra', workspace_id, room_id, thread_id, status, title, goal, input,"
        " output, error, summary, tags, created_at, started_at, ended_at, updated_at, correlation_id, last_event_id,"
        " stream_seq from proj_runs where room_id = 'bad-extra'",
        "delete from proj_run_tags where room_id = 'bad-tags' and tag like 'a%'",
        "update proj_room_events set envelope = envelope || ' ' where room_id = 'bad-bytes' and stream_seq = 2",
        "delete from proj_room_events where room_id = 'bad-lost' and stream_seq = 5",
        "update proj_rooms set applied_seq = 6 where room_id = 'bad-ahead' and projection = 'runs'",
    ):
        await connection.execute(statement)
    await connection.close()
    store_connection = await asyncpg.connect(event_store_dsn)
    await store_connection.execute("set session_replication_role = replica")
    await store_connection.execute("delete from events where room_id = 'bad-hole' and stream_seq = 2")
    await store_connection.execute("update runs set status = 'queued' where room_id = 'bad-state'")
    await store_connection.execute(
        "insert into runs select 'run_orphan', workspace_id, room_id, thread_id, status, version, gen_random_uuid(),"
        " correlation_id from runs where room_id = 'bad-orphan'"
    )
    await store_connection.close()
    run, step = rooms["run"].events[0].run_id, rooms["step"].events[2]
    status, output = await verify(event_store_dsn, projection_dsn, stream_url)
    found = {line.split("  ")[1] + " " + line.split("  ")[2] for line in differences(output)}
    assert status == 1
    assert f"ws/bad-run runs: {run} differs in status, summary" in found
    assert any(line.startswith("ws/bad-step runs: step_") and line.endswith("is missing") for line in found), step
    assert "ws/bad-extra runs: run_extra should not be there" in found
    assert f"ws/bad-tags runs: {rooms['tags'].events[0].run_id} is listed by other tags than it has" in found
    assert "ws/bad-bytes room_feed: event 2 has other bytes than the one stored" in found
    assert "ws/bad-lost room_feed: event 5 is missing" in found
    assert "ws/bad-ahead runs: applied up to 6, stored up to 5" in found
    assert "ws/bad-below runs: applied up to -5" in found
    assert any(line.startswith("ws/bad-stream stream: event 4 at") and line.endswith("on event 2") for line in found)
    assert any(line.startswith("ws/bad-twice stream: event 2 at") for line in found)
    assert "ws/bad-hole store: event 3 follows on event 1" in found
    assert any(line.startswith("ws/bad-hole stream: event 2 at") and "not in the store" in line for line in found)
    assert f"ws/bad-state store: the state of {rooms['state'].events[0].run_id} is not what its events say" in found
    assert "ws/bad-orphan store: the last event of run_orphan is not there" in found
    assert {line.split()[0] for line in found} == {f"ws/{history.key.room_id}" for history in rooms.values()}
    assert "done" not in output  # a payload's text


async def test_a_tail_that_is_not_on_the_stream_is_a_difference_of_the_stream(
    workers: Workers, event_store_dsn: str, projection_dsn: str, stream_url: str
) -> None:
    tail = RoomHistory("tail")
    tail.run()
    nothing = RoomHistory("nothing")
    nothing.run()
    await store(event_store_dsn, [*tail.events, *nothing.events])
    await publish(stream_url, tail.events[:3])
    _, output = await verify(event_store_dsn, projection_dsn, stream_url)
    assert "differs  ws/tail  stream: event 5 is missing" in output
    assert "differs  ws/nothing  stream: event 5 is missing" in output
    assert "differs  ws/nothing  runs" not in output  # healed meanwhile


async def test_what_ends_with_no_event_is_not_missed(
    workers: Workers, event_store_dsn: str, projection_dsn: str, stream_url: str
) -> None:
    room = RoomHistory("hidden")
    room.run()
    await store(event_store_dsn, room.events)
    await publish(stream_url, room.events)
    async with Broker(stream_url, name="test") as broker:
        broker.start()
        await broker.wait_connected()
        await broker.client.request(room_subject("ws", "hidden"), b"no event")
    _, output = await verify(event_store_dsn, projection_dsn, stream_url)
    found = [line for line in output.splitlines() if line.startswith("differs  ws/hidden")]
    assert [line.rsplit(" ", 3)[1:] for line in found] == [["is", "no", "event"]]


async def test_large_events_are_on_the_stream_as_far_as_they_are(migrated_databases: MigratedDatabases) -> None:
    """The last ones of all rooms are more than the broker puts in one answer."""
    dsn = migrated_databases.copy("event_store")
    events = [
        RoomHistory(f"large-{number:02}").created(f"run_{number}", input={"x": SIZE * "x"}) for number in range(13)
    ]
    lines: list[str] = []
    with running_nats(CUTS_AT_8_MB) as nats:
        async with Broker(nats.url, name="test") as broker, connected(dsn, "test") as connection:
            broker.start()
            await broker.wait_connected()
            await ensure_stream(broker, StreamSettings())
            await store(dsn, events)
            await publish(nats.url, events[:12])
            seen = {event.key: Seen(1, 1, {}, {}, {}) for event in events}
            await StreamCheck(broker, connection, Report(lines.append)).tails(seen)
    assert lines == ["differs  ws/large-12  stream: event 1 is missing"]


async def test_a_relay_that_stands_still_is_told(
    migrated_databases, event_store_dsn: str, stream_url: str, tmp_path: Path
) -> None:
    event_store, projections = migrated_databases.copy("event_store"), migrated_databases.copy("projections")
    history = RoomHistory("waiting")
    history.run()
    await store(event_store, history.events)
    connection = await asyncpg.connect(event_store)
    await connection.execute("update rooms set published_seq = 2")
    await connection.close()
    status, output = await verify(event_store, projections, stream_url)
    assert status == 1
    assert "differs  ws/waiting  stream: published up to 2 of 5, and the relay stands" in output


async def test_what_has_aged_out_of_the_stream_is_missed_by_nobody(
    workers: Workers, event_store_dsn: str, projection_dsn: str, stream_url: str
) -> None:
    old = RoomHistory("old")
    old.run()
    await store(event_store_dsn, old.events)
    connection = await asyncpg.connect(event_store_dsn)
    await connection.execute("set session_replication_role = replica")
    await connection.execute("update events set recorded_at = now() - interval '40 days' where room_id = 'old'")
    await connection.close()
    await publish(stream_url, old.events[3:])
    await applied(projection_dsn, [old])
    _, output = await verify(event_store_dsn, projection_dsn, stream_url)
    assert "ws/old" not in output


async def test_rooms_that_stand_still_are_told_apart_from_rooms_that_lag(
    migrated_databases, event_store_dsn: str, stream_url: str, tmp_path: Path
) -> None:
    projections = migrated_databases.copy("projections")
    event_store = migrated_databases.copy("event_store")
    history = RoomHistory("standing")
    events: list[Stored] = history.run()
    await store(event_store, events)
    status, output = await verify(event_store, projections, stream_url)
    assert status == 1
    assert "differs  ws/standing  runs: stands still at 0 of 5" in output


async def test_what_cannot_be_reached_is_no_answer(
    projection_dsn: str, event_store_dsn: str, stream_url: str, tmp_path: Path
) -> None:
    status, output = await verify("postgresql://nobody@127.0.0.1:1/none", projection_dsn, stream_url)
    assert status == 2
    assert output.startswith("cannot look: ")
    stranger = EmbeddedNats(tmp_path / "nats", users=USERS_FILE.read_text())
    stranger.start()
    try:
        status, output = await verify(event_store_dsn, projection_dsn, stranger.url)
    finally:
        stranger.stop()
    assert (status, output.strip()) == (2, "cannot look: no connection to NATS: nats: 'Authorization Violation'")
