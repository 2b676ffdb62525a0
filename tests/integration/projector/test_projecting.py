"""What is projected is what the event store holds, however it reached the workers and however many there are."""

from __future__ import annotations

import asyncio
import json
import random
import urllib.request
from pathlib import Path

import asyncpg
import pytest

from deploy.local.ports import free_port
from shared.contracts.subjects import HEADER_STREAM_SEQ, PARTITIONS, partition_of, progress_subject, room_subject
from shared.messaging.broker import Broker
from tests.integration.projector.history import RoomHistory, publish, store
from tests.integration.projector.workers import PROJECTIONS, Workers, applied, dump, feed_matches, running, shared_by
from tests.support.servers import MigratedDatabases, as_role


def interleaved(histories: list[RoomHistory], seed: int) -> list:
    """The histories' events in an order that keeps each room's."""
    queues = [list(reversed(history.events)) for history in histories]
    choice = random.Random(seed)
    events = []
    while queues := [queue for queue in queues if queue]:
        events.append(choice.choice(queues).pop())
    return events


@pytest.fixture(scope="module")
def workers(event_store_dsn: str, projection_dsn: str, stream_url: str, tmp_path_factory: pytest.TempPathFactory):
    """One worker, used by the tests of this module that do not care how many there are."""
    with running(event_store_dsn, projection_dsn, stream_url, tmp_path_factory.mktemp("logs")) as workers:
        yield workers


async def test_one_worker_and_four_write_the_same_rows(
    migrated_databases: MigratedDatabases, event_store_dsn: str, stream_url: str, tmp_path: Path
) -> None:
    histories = [RoomHistory(f"same-{number}") for number in range(60)]
    for number, history in enumerate(histories):
        for turn in range(6):
            history.run(steps=number % 4, end=("completed", "failed", None)[turn % 3])
    events = interleaved(histories, 1)
    await store(event_store_dsn, events)
    dumps = []
    for count in (1, 4):
        dsn = migrated_databases.copy("projections")
        logs = tmp_path / str(count)
        logs.mkdir()
        with running(event_store_dsn, dsn, stream_url, logs, count):
            await shared_by(dsn, count)
            if count == 1:
                await publish(stream_url, events)
            await applied(dsn, histories)
            await feed_matches(dsn, histories)
        dumps.append(await dump(dsn))
    assert dumps[0] == dumps[1]
    assert len(dumps[0]["runs"]) == 60 * 6
    assert all(position > 0 for *_, position, _ in dumps[0]["room_events"])


async def test_a_run_and_its_steps_are_told_as_their_events_were(
    workers: Workers, event_store_dsn: str, stream_url: str
) -> None:
    history = RoomHistory("told")
    created, started, step, completed = history.run(steps=1)
    failed = history.run(steps=0, end="failed")
    await store(event_store_dsn, history.events)
    await publish(stream_url, history.events)
    await applied(workers.projection_dsn, [history])
    connection = await asyncpg.connect(workers.projection_dsn)
    run = await connection.fetchrow("select * from proj_runs where run_id = $1", created.run_id)
    row = await connection.fetchrow("select * from proj_steps where run_id = $1", created.run_id)
    unlucky = await connection.fetchrow("select * from proj_runs where run_id = $1", failed[0].run_id)
    await connection.close()
    assert run is not None
    assert row is not None
    assert unlucky is not None
    assert (run["status"], run["summary"], run["thread_id"]) == ("succeeded", "done", "thread")
    assert json.loads(run["input"]) == {"n": 1, "text": "ü"}
    assert json.loads(run["output"]) == {"answer": 42}
    assert json.loads(run["error"]) == {}
    assert run["tags"] == ['a"b', "c\\,d"]
    assert run["created_at"] < run["started_at"] < run["ended_at"] == run["updated_at"]
    assert (str(run["last_event_id"]), run["stream_seq"]) == (completed.event_id, 4)
    assert (row["status"], row["kind"], row["title"]) == ("queued", "tool", "look")
    assert json.loads(row["input"]) == {"q": [1, 2, None]}
    assert (str(row["last_event_id"]), row["stream_seq"]) == (step.event_id, 3)
    assert (unlucky["status"], json.loads(unlucky["error"])) == ("failed", {"message": "no luck"})
    assert started.seq == 2


async def test_repeated_reordered_and_missing_messages_change_nothing(
    workers: Workers, event_store_dsn: str, stream_url: str
) -> None:
    histories = [RoomHistory(f"mess-{number}") for number in range(20)]
    for history in histories:
        for _ in range(10):
            history.run(steps=3)
    events = [event for history in histories for event in history.events]
    await store(event_store_dsn, events)
    choice = random.Random(2)
    messy = [event for event in events if choice.random() > 0.2] + [e for e in events if choice.random() > 0.7]
    choice.shuffle(messy)
    # A tail that is missing shows with the next event; here that is the last one of each room, at the very end.
    messy += [history.events[-1] for history in histories]
    await publish(stream_url, messy)
    await applied(workers.projection_dsn, histories)
    await feed_matches(workers.projection_dsn, histories)
    connection = await asyncpg.connect(workers.projection_dsn)
    statuses = await connection.fetch("select status, count(*) from proj_runs where room_id like 'mess-%' group by 1")
    steps = await connection.fetchval("select count(*) from proj_steps where room_id like 'mess-%'")
    await connection.close()
    assert [tuple(row) for row in statuses] == [("succeeded", 200)]
    assert steps == 600


async def test_a_tail_that_never_comes_is_found_in_the_event_store(
    workers: Workers, event_store_dsn: str, stream_url: str
) -> None:
    history = RoomHistory("tail")
    history.run(steps=2)
    await store(event_store_dsn, history.events)
    await publish(stream_url, history.events[:2])
    await applied(workers.projection_dsn, [history])
    await feed_matches(workers.projection_dsn, [history])


async def test_long_holes_in_many_rooms_are_filled_by_and_by(
    workers: Workers, event_store_dsn: str, stream_url: str
) -> None:
    histories = [RoomHistory(f"long-{number}") for number in range(6)]
    for history in histories:
        for _ in range(140):
            history.run(steps=5)
    await store(event_store_dsn, [event for history in histories for event in history.events])
    await publish(stream_url, [history.events[-1] for history in histories])
    await applied(workers.projection_dsn, histories)
    await feed_matches(workers.projection_dsn, histories)


async def test_progress_is_announced_once_it_is_there_to_be_read(
    workers: Workers, event_store_dsn: str, stream_url: str, broker: Broker
) -> None:
    history = RoomHistory("announced")
    history.run(steps=0)
    heard: dict[str, int] = {}
    early: list[dict[str, object]] = []
    done = asyncio.Event()

    async def receive(message) -> None:
        progress = json.loads(message.data)
        connection = await asyncpg.connect(workers.projection_dsn)
        seq = await connection.fetchval(
            "select applied_seq from proj_rooms where projection = $1 and room_id = $2",
            progress["projection"],
            history.key.room_id,
        )
        await connection.close()
        if seq is None or seq < progress["stream_seq"]:
            early.append(progress)
        heard[progress["projection"]] = progress["stream_seq"]
        if heard == {"runs": 3, "room_feed": 3}:
            done.set()

    subscription = await broker.client.subscribe(progress_subject(*history.key), cb=receive)
    await store(event_store_dsn, history.events)
    await publish(stream_url, history.events)
    async with asyncio.timeout(30):
        await done.wait()
    await subscription.unsubscribe()
    assert early == []


async def test_a_poisonous_event_stops_its_room_and_nothing_else(
    event_store_dsn: str, migrated_databases: MigratedDatabases, stream_url: str, tmp_path: Path
) -> None:
    dsn = migrated_databases.copy("projections")
    port = free_port()
    unreadable, unwritable, well = RoomHistory("unreadable"), RoomHistory("unwritable"), RoomHistory("well")
    for history in (unreadable, unwritable, well):
        history.run(steps=1)
    unreadable.garbage(b'{"event_type": "run.created", "event_version": 99}')
    unwritable.created("run_nul", title="a\x00b")
    for history in (unreadable, unwritable, well):
        history.run(steps=1)
    histories = [unreadable, unwritable, well]
    events = interleaved(histories, 3)
    await store(event_store_dsn, events)
    await publish(stream_url, events)
    workers = Workers(event_store_dsn, dsn, stream_url, tmp_path)
    try:
        worker = workers.start(PROJECTOR_PORT=str(port))
        await applied(dsn, [well])
        connection = await asyncpg.connect(dsn)
        # The feed shows everything: it does not read what it serves.
        await applied(dsn, histories, projections=("room_feed",))
        await feed_matches(dsn, histories)
        query = "select room_id, applied_seq from proj_rooms where projection = 'runs' and room_id like 'un%'"
        async with asyncio.timeout(20):
            while {row["room_id"]: row["applied_seq"] for row in await connection.fetch(query)} != {
                "unreadable": 4,
                "unwritable": 4,
            }:
                await asyncio.sleep(0.05)
        async with asyncio.timeout(20):
            while '"2 parked' not in await asyncio.to_thread(_get, port, "/readyz"):
                await asyncio.sleep(0.05)
        ready = json.loads(await asyncio.to_thread(_get, port, "/readyz"))
        assert ready["status"] == "ok"
        assert "unreadable at 5 (UnknownEventError)" in ready["dependencies"]["parked"]["detail"]
        async with asyncio.timeout(20):  # counted once the batch they came in is done
            while 'runroom_projector_parked_events{projection="runs"} 2.0' not in await asyncio.to_thread(
                _get, port, "/metrics"
            ):
                await asyncio.sleep(0.05)
        assert workers.log().count('"event": "event_parked"') == 2
        # The room goes on where it stood once the event can be applied, however the worker was restarted since.
        worker.terminate()
        assert worker.wait(10) == 0
        await connection.execute("update projector_leases set stream_position = stream_position + 1000000")
        store_connection = await asyncpg.connect(event_store_dsn)
        await store_connection.execute("set session_replication_role = replica")
        fixed = RoomHistory("unreadable")
        healed = fixed.created("run_healed").envelope.replace(b'"stream_seq":1,', b'"stream_seq":5,')
        await store_connection.execute(
            "update events set envelope = $1 where room_id = 'unreadable' and stream_seq = 5", healed
        )
        await store_connection.close()
        workers.start()
        async with asyncio.timeout(30):
            while {row["room_id"]: row["applied_seq"] for row in await connection.fetch(query)} != {
                "unreadable": 9,
                "unwritable": 4,
            }:
                await asyncio.sleep(0.05)
        await connection.close()
    finally:
        workers.end()


async def test_an_event_about_another_rooms_run_stops_its_own_room_alone(
    event_store_dsn: str, migrated_databases: MigratedDatabases, stream_url: str, tmp_path: Path
) -> None:
    dsn = migrated_databases.copy("projections")
    own = RoomHistory("own", "ws_own")
    created, _, step = own.run(steps=1, end=None)
    forge = {
        "creates": lambda room: room.created(created.run_id),
        "ends": lambda room: room.completed(created.run_id),
        "steps": lambda room: room.step(created.run_id),
        "takes": lambda room: room.step(room.events[0].run_id, step_id=json.loads(step.envelope)["step_id"]),
    }
    rooms = [RoomHistory(name, "ws_thief") for name in forge]
    workers = Workers(event_store_dsn, dsn, stream_url, tmp_path)
    try:
        workers.start()
        await store(event_store_dsn, own.events)
        await publish(stream_url, own.events)
        await applied(dsn, [own])
        before = await dump(dsn)
        for room, event in zip(rooms, forge.values(), strict=True):
            room.run(steps=4, end=None)
            event(room)
            room.run()
        events = interleaved(rooms, 5)
        await store(event_store_dsn, events, states=False)
        await publish(stream_url, events)
        connection = await asyncpg.connect(dsn)
        query = (
            "select room_id, stream_seq from projector_parked where projection = 'runs' and workspace_id = 'ws_thief'"
        )
        async with asyncio.timeout(20):
            while {tuple(row) for row in await connection.fetch(query)} != {(name, 7) for name in forge}:
                await asyncio.sleep(0.05)
        after = await dump(dsn)
        for table in ("runs", "steps", "run_tags"):
            assert [row for row in before[table] if created.run_id in row and row not in after[table]] == []
        shown = await connection.fetch(
            "select room_id, count(*) from proj_runs where workspace_id in ('ws_own', 'ws_thief') group by 1 order by 1"
        )
        assert [tuple(row) for row in shown] == [(name, 1) for name in ("creates", "ends", "own", "steps", "takes")]
        # What becomes of the run is what its own room says, whatever numbers the others have.
        events = [own.completed(created.run_id), *own.run()]
        await store(event_store_dsn, events)
        await publish(stream_url, events)
        await applied(dsn, [own])
        run = await connection.fetchrow("select * from proj_runs where run_id = $1", created.run_id)
        assert run is not None
        assert (run["workspace_id"], run["status"], run["stream_seq"]) == ("ws_own", "succeeded", 4)
        await connection.close()
    finally:
        workers.end()


async def test_a_run_that_two_rooms_create_at_once_is_of_one_of_them(
    event_store_dsn: str, migrated_databases: MigratedDatabases, stream_url: str, tmp_path: Path
) -> None:
    """Be they in one batch or with two workers."""
    dsn = migrated_databases.copy("projections")
    rooms = [RoomHistory(f"contender-{number}", "ws_both") for number in range(20)]
    for number, room in enumerate(rooms):
        room.run()
        room.created(f"run_of_both_{number // 2}")
        room.completed(f"run_of_both_{number // 2}")
    events = interleaved(rooms, 6)
    await store(event_store_dsn, events)
    await publish(stream_url, events)
    workers = Workers(event_store_dsn, dsn, stream_url, tmp_path)
    try:
        for _ in range(2):
            workers.start()
        connection = await asyncpg.connect(dsn)
        parked = (
            "select room_id, stream_seq from projector_parked where projection = 'runs' and workspace_id = 'ws_both'"
        )
        far = (
            "select room_id from proj_rooms where projection = 'runs' and workspace_id = 'ws_both' and applied_seq = $1"
        )
        async with asyncio.timeout(20):
            while len(losers := await connection.fetch(parked)) < 10 or len(await connection.fetch(far, 7)) < 10:
                await asyncio.sleep(0.05)
        assert {row["stream_seq"] for row in losers} == {6}
        shown = "select run_id, room_id, status from proj_runs where run_id like 'run_of_both%'"
        winners = await connection.fetch(shown)
        assert {row["status"] for row in winners} == {"succeeded"}
        assert len({row["run_id"] for row in winners}) == 10
        assert {row["room_id"] for row in (*winners, *losers)} == {room.key.room_id for room in rooms}
        await connection.close()
    finally:
        workers.end()


async def test_messages_that_are_no_events_are_passed_over(
    workers: Workers, event_store_dsn: str, stream_url: str, broker: Broker
) -> None:
    history = RoomHistory("strays")
    history.run(steps=0)
    ours = partition_of(*history.key)
    other = (ours + 1) % PARTITIONS
    subject = room_subject(*history.key)
    elsewhere = subject.replace(f"rooms.{ours}.", f"rooms.{other}.")
    stream = broker.client.jetstream()
    await stream.publish(subject, b"no headers at all")
    here = await stream.publish(subject, b"{}", headers={HEADER_STREAM_SEQ: "many"})
    there = await stream.publish(elsewhere, b"{}", headers={HEADER_STREAM_SEQ: "1"})
    await passed(workers.projection_dsn, {ours: here.seq, other: there.seq})
    await store(event_store_dsn, history.events)
    await publish(stream_url, history.events)
    await applied(workers.projection_dsn, [history])
    await feed_matches(workers.projection_dsn, [history])
    assert workers.running == [True]


@pytest.mark.parametrize(
    "checkpoint",
    ["stream_position = -5", "stream_identity = split_part(stream_identity, '/', 1) || '/' || repeat('9', 5000)"],
    ids=["before the first", "of a life that no number is for"],
)
async def test_a_checkpoint_that_no_worker_writes_is_not_gone_on_from(
    workers: Workers, event_store_dsn: str, stream_url: str, checkpoint: str
) -> None:
    history = RoomHistory(f"checkpoint-{len(checkpoint)}")
    history.run(steps=0)
    await store(event_store_dsn, history.events)
    await publish(stream_url, history.events)
    await applied(workers.projection_dsn, [history])
    connection = await asyncpg.connect(workers.projection_dsn)
    for name in ("position", "forms"):  # it may be of before they were
        await connection.execute(f"alter table projector_leases drop constraint if exists projector_leases_{name}")
    await connection.execute(f"update projector_leases set {checkpoint}, epoch = epoch + 1")
    await connection.close()
    events = history.run(steps=0)
    await store(event_store_dsn, events)
    await publish(stream_url, events)
    await applied(workers.projection_dsn, [history])
    assert workers.running == [True]


async def test_a_room_that_is_said_to_be_applied_up_to_before_its_first_event_is_applied_from_there(
    workers: Workers, event_store_dsn: str, stream_url: str
) -> None:
    """One that is on the stream, and one that the reconciler finds."""
    on_stream, lost = RoomHistory("below-on-stream"), RoomHistory("below-lost")
    connection = await asyncpg.connect(workers.projection_dsn)
    # It may be of before that was.
    await connection.execute("alter table proj_rooms drop constraint if exists proj_rooms_applied_forms")
    for history in (on_stream, lost):
        history.run()
        await connection.execute(
            "insert into proj_rooms (projection, workspace_id, room_id, partition, applied_seq)"
            " select unnest($1::text[]), $2, $3, $4, -5",
            PROJECTIONS,
            *history.key,
            partition_of(*history.key),
        )
    await connection.close()
    await store(event_store_dsn, [*on_stream.events, *lost.events])
    await publish(stream_url, on_stream.events)
    await applied(workers.projection_dsn, [on_stream, lost])


async def test_no_position_is_below_the_first(migrated_databases: MigratedDatabases) -> None:
    dsn = migrated_databases.copy("projections")
    connection = await asyncpg.connect(dsn)
    await connection.execute("insert into projector_leases (projection, partition) values ('runs', 1)")
    await connection.close()
    thief = await asyncpg.connect(as_role(dsn, "runroom_projector"))
    with pytest.raises(asyncpg.CheckViolationError):
        await thief.execute("update projector_leases set stream_position = -5, epoch = epoch + 1")
    await thief.close()


async def passed(dsn: str, positions: dict[int, int]) -> None:
    """Waits until both projections' checkpoints of these partitions are at the positions."""
    connection = await asyncpg.connect(dsn)
    async with asyncio.timeout(30):
        while True:
            rows = await connection.fetch(
                "select partition, stream_position from projector_leases where partition = any ($1)", list(positions)
            )
            there = [row["stream_position"] == positions[row["partition"]] for row in rows]
            if there == [True] * len(PROJECTIONS) * len(positions):
                break
            await asyncio.sleep(0.02)
    await connection.close()


def _get(port: int, path: str) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
        return answer.read().decode()
