"""Workers come, go, die and fall asleep; each event is applied once all the same."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import pytest

from services.projector.copying import COPIES, binary_rows, copy_rows
from services.projector.leases import new_worker_id, session_name
from services.projector.projection_store import Advance, LeaseLostError, Mark, ProjectionStore
from services.projector.projections.base import Recorded, RoomEvents, fold
from services.projector.projections.room_feed import RoomFeed
from services.projector.session import Session
from shared.contracts.subjects import partition_of
from shared.messaging.broker import Broker
from shared.messaging.stream import stream_state
from shared.postgres import STORE_ERRORS
from tests.integration.privileges import connected
from tests.integration.projector.history import RoomHistory, publish, store
from tests.integration.projector.workers import (
    Workers,
    applied,
    dump,
    feed_matches,
    owners,
    running,
    shared_by,
    until_waiting,
)
from tests.support.proxy import running_proxy, through
from tests.support.servers import MigratedDatabases, as_role

# Three are promised, two of which are the lease; the rest is for a machine that is busy with other tests.
TAKEOVER_SECONDS = 3.0 + 2.0


@pytest.fixture
async def fresh_projections(migrated_databases: MigratedDatabases) -> str:
    return migrated_databases.copy("projections")


@pytest.fixture(scope="module")
async def workers(
    projection_dsn: str, event_store_dsn: str, stream_url: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Workers]:
    """Three workers; each test adds one and loses it again."""
    with running(event_store_dsn, projection_dsn, stream_url, tmp_path_factory.mktemp("logs"), 3) as workers:
        await shared_by(projection_dsn, 3)
        yield workers


class Load:
    """Rooms that are written to all the time until ``stop``."""

    def __init__(self, name: str, event_store_dsn: str, stream_url: str) -> None:
        self.histories = [RoomHistory(f"{name}-{number}") for number in range(40)]
        self._dsn = event_store_dsn
        self._url = stream_url
        self._task = asyncio.create_task(self._write())
        self._stopped = False

    async def stop(self) -> None:
        self._stopped = True
        await self._task

    async def _write(self) -> None:
        while not self._stopped:
            events = [event for history in self.histories for event in history.run(steps=1)]
            await store(self._dsn, events)
            await publish(self._url, events)
            await asyncio.sleep(0.05)


async def replaced(dsn: str, count: int, since: float) -> float:
    await shared_by(dsn, count)
    return time.monotonic() - since


async def test_shares_follow_the_workers_that_come_and_go(workers: Workers) -> None:
    dsn = workers.projection_dsn
    totals: dict[str | None, int] = {}
    for shares in (await owners(dsn)).values():
        for owner, partitions in shares.items():
            totals[owner] = totals.get(owner, 0) + partitions
    assert max(totals.values()) - min(totals.values()) <= 1, "the odd partitions of both projections went to the same"
    fourth = workers.start()
    await shared_by(dsn, 4)
    fourth.terminate()
    await shared_by(dsn, 3)
    assert fourth.wait(10) == 0


async def test_a_clean_start_and_stop_hand_over_at_once_however_long_the_leases(
    fresh_projections: str, event_store_dsn: str, stream_url: str, tmp_path: Path
) -> None:
    workers = Workers(event_store_dsn, fresh_projections, stream_url, tmp_path)
    try:
        workers.start(LEASE_SECONDS="30")
        await shared_by(fresh_projections, 1)
        second = workers.start(LEASE_SECONDS="30")
        await shared_by(fresh_projections, 2, seconds=15)
        left = time.monotonic()
        second.terminate()
        assert await replaced(fresh_projections, 1, left) < 3.0
    finally:
        workers.end()


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP])
async def test_a_dead_or_sleeping_worker_is_replaced_and_nothing_is_lost_or_repeated(
    workers: Workers, event_store_dsn: str, stream_url: str, how: signal.Signals
) -> None:
    dsn = workers.projection_dsn
    victim = workers.start()
    await shared_by(dsn, 4)
    load = Load(how.name, event_store_dsn, stream_url)
    await asyncio.sleep(0.4)
    struck = time.monotonic()
    victim.send_signal(how)
    took = await replaced(dsn, 3, struck)
    await asyncio.sleep(0.2)
    if how is signal.SIGSTOP:
        victim.send_signal(signal.SIGCONT)
        await shared_by(dsn, 4)
        victim.terminate()
    await load.stop()
    await applied(dsn, load.histories)
    await feed_matches(dsn, load.histories)
    connection = await asyncpg.connect(dsn)
    statuses = await connection.fetch(
        "select status, count(*) from proj_runs where room_id like $1 group by 1", f"{how.name}-%"
    )
    await connection.close()
    assert [tuple(row) for row in statuses] == [("succeeded", sum(history.head for history in load.histories) // 4)]
    assert took < TAKEOVER_SECONDS


async def test_a_worker_that_is_late_writes_nothing(fresh_projections: str) -> None:
    history = RoomHistory("late")
    history.run(steps=0)
    partition = partition_of(*history.key)
    connection = await asyncpg.connect(fresh_projections)
    await connection.execute(
        "insert into projector_leases (projection, partition, owner, epoch) values ('room_feed', $1, 'sleeper', 7)",
        partition,
    )
    session = Session(fresh_projections, "test", idle_seconds=2)
    sleeper = ProjectionStore(session, "room_feed", "sleeper")
    first, second, third = history.events

    async def apply(store: ProjectionStore, events: list, mark: Mark) -> None:
        recorded = [Recorded(event.seq, event.seq, event.envelope) for event in events]
        writes = fold(RoomFeed(), [RoomEvents(history.key, recorded)])
        await store.apply(writes, [Advance(history.key, partition, events[0].seq, events[-1].seq)], [mark])

    await apply(sleeper, [first], Mark(partition, 7, "s/0", 1))
    # Another takes over; then the first one wakes up, and later one of the same name under an old epoch.
    await connection.execute("update projector_leases set owner = 'other', epoch = 8 where partition = $1", partition)
    with pytest.raises(LeaseLostError) as lost:
        await apply(sleeper, [second], Mark(partition, 7, "s/0", 2))
    assert lost.value.partitions == {partition}
    await connection.execute("update projector_leases set owner = 'sleeper', epoch = 9 where partition = $1", partition)
    with pytest.raises(LeaseLostError):
        await apply(sleeper, [second], Mark(partition, 7, "s/0", 2))
    written = await dump(fresh_projections)
    assert [row[2] for row in written["room_events"]] == [1]
    assert written["rooms"] == [("room_feed", *history.key, partition, 1)]
    assert await connection.fetchval("select stream_position from projector_leases") == 1
    await apply(sleeper, [second, third], Mark(partition, 9, "s/0", 3))
    assert [row[2] for row in (await dump(fresh_projections))["room_events"]] == [1, 2, 3]
    await session.close()
    await connection.close()


async def test_what_somebody_wrote_beside_the_workers_keeps_no_partition_from_them(
    fresh_projections: str, event_store_dsn: str, stream_url: str, tmp_path: Path
) -> None:
    """Workers that would live for ever, or come to life one after another; leases that are at their last epoch, with
    checkpoints beyond the end of the stream."""
    async with (
        connected(as_role(fresh_projections, "runroom_projector")) as thief,
        Broker(stream_url, name="t") as broker,
    ):
        broker.start()
        await broker.wait_connected()
        stream = await stream_state(broker)
        assert stream is not None
        with running(event_store_dsn, fresh_projections, stream_url, tmp_path):
            await shared_by(fresh_projections, 1)
            await thief.execute(
                "insert into projector_workers select 'ghost-' || n, '{runs, room_feed}',"
                " case when n > 32 then 'infinity' else now() + interval '1 day' end from generate_series(1, 64) as n"
            )
            await thief.execute(
                "update projector_leases set epoch = 9223372036854775807, owner = null,"
                " stream_identity = $1, stream_position = 9223372036854775807",
                stream.identity.key,
            )
            await shared_by(fresh_projections, 1)
            assert await thief.fetchval("select max(epoch) from projector_leases") < 2**53
            # What comes is read from the stream, not found missing.
            history = RoomHistory("beyond")
            await store(event_store_dsn, events := list(history.run(steps=1)))
            await publish(stream_url, events)
            position = "select max(stream_position) from projector_leases where partition = $1"
            async with asyncio.timeout(20):
                while await thief.fetchval(position, partition_of(*history.key)) >= 2**53:
                    await asyncio.sleep(0.05)
            await thief.execute(
                "insert into projector_workers select 'next-' || n, '{runs, room_feed}',"
                " now() + make_interval(mins => 2, secs => n) from generate_series(60, 64) as n"
            )
            # They are forgotten while it works.
            async with asyncio.timeout(20):
                while await thief.fetchval("select count(*) from projector_workers") > 1:
                    await asyncio.sleep(0.05)
        assert await thief.fetchval("select count(*) from projector_workers") == 0


async def test_no_worker_ends_by_what_others_are_said_to_be_alive(
    fresh_projections: str, event_store_dsn: str, stream_url: str, tmp_path: Path
) -> None:
    """Each counts itself, however many others are said to be alive, or that somebody says it runs nothing."""
    flood = (
        "insert into projector_workers select 'ghost-' || n, '{}', now() + n * interval '0.1 ms'"
        " from generate_series(1, 30000) as n returning now()"
    )
    expiry = "select max(expires_at) from projector_workers"
    async with connected(as_role(fresh_projections, "runroom_projector")) as thief:
        with running(event_store_dsn, fresh_projections, stream_url, tmp_path) as workers:
            await shared_by(fresh_projections, 1)
            gone = await thief.fetchval(flood) + timedelta(seconds=4)
            async with asyncio.timeout(20):
                while await thief.fetchval(expiry) < gone and all(workers.running):
                    await thief.execute("update projector_workers set projections = '{}' where worker_id !~ '^ghost'")
                    await asyncio.sleep(0.01)
            assert workers.running == [True]
            await shared_by(fresh_projections, 1)


async def test_a_transaction_that_stands_still_is_ended_so_that_its_locks_go(fresh_projections: str) -> None:
    session = Session(fresh_projections, "test", idle_seconds=0.3)
    connection = await session.get()
    await connection.execute("begin")
    await connection.execute("insert into projector_leases (projection, partition) values ('held', 1)")
    await asyncio.sleep(0.6)
    assert connection.is_closed()
    assert await (await session.get()).fetchval("select count(*) from projector_leases") == 0
    await session.close()


async def test_a_worker_that_stands_still_in_the_middle_of_a_copy_is_ended_by_its_successor(
    fresh_projections: str, event_store_dsn: str, stream_url: str, tmp_path: Path
) -> None:
    """PostgreSQL waits for the rest of a COPY for as long as the connection is there."""
    dsn = as_role(fresh_projections, "runroom_projector")
    history = RoomHistory("half-copied")
    history.run()
    recorded = [Recorded(event.seq, event.seq, event.envelope) for event in history.events]
    (write,) = fold(RoomFeed(), [RoomEvents(history.key, recorded)])
    is_over = asyncio.Event()

    async def half() -> AsyncIterator[bytes]:
        yield binary_rows(write.columns)[:10]
        await is_over.wait()

    sleeper, alive = new_worker_id(), new_worker_id()
    async with connected(fresh_projections) as look:
        await look.execute(
            "insert into projector_leases (projection, partition, owner, epoch) values ('room_feed', $1, $2, 7)",
            partition_of(*history.key),
            sleeper,
        )
        others = Session(dsn, session_name(alive), idle_seconds=2)
        session = Session(dsn, session_name(sleeper), idle_seconds=2)
        other, connection = await others.get(), await session.get()
        transaction = connection.transaction()
        await transaction.start()
        copy = COPIES["room_events_insert"]
        await copy_rows(connection, copy, write, 1)
        copying = asyncio.create_task(
            connection.copy_to_table("proj_room_events_v1", source=half(), columns=copy.columns, format="binary")
        )
        waits = "select state = 'active' and wait_event = 'ClientRead' from pg_stat_activity where pid = $1"
        async with asyncio.timeout(10):
            while not await look.fetchval(waits, connection.get_server_pid()):
                await asyncio.sleep(0.05)
        await store(event_store_dsn, history.events)
        await publish(stream_url, history.events)
        try:
            with running(event_store_dsn, fresh_projections, stream_url, tmp_path):
                await applied(fresh_projections, [history], projections=("room_feed",), seconds=15)
            await feed_matches(fresh_projections, [history])
            assert not other.is_closed()
        finally:
            is_over.set()
            with pytest.raises(STORE_ERRORS):
                await copying
            session.discard()
            await others.close()


async def test_an_owner_that_is_called_like_a_living_worker_ends_no_session_of_its(
    fresh_projections: str, event_store_dsn: str, stream_url: str, tmp_path: Path
) -> None:
    """Sessions have room for the last part of a worker's name alone, and a lease may say anything."""
    with running(event_store_dsn, fresh_projections, stream_url, tmp_path, 2) as workers:
        await shared_by(fresh_projections, 2)
        async with connected(as_role(fresh_projections, "runroom_projector")) as somebody:
            made_up = await somebody.execute(
                """
                update projector_leases set owner = 'made-up-' || substring(owner from '[^-]*$')
                where projection = 'runs' and partition % 4 = 0
                """
            )
            assert made_up == "UPDATE 8"
        await shared_by(fresh_projections, 2)
        assert "sessions_ended" not in workers.log()


async def test_who_may_end_no_sessions_takes_over_all_the_same(
    fresh_projections: str, event_store_dsn: str, stream_url: str, tmp_path: Path
) -> None:
    async with connected(fresh_projections) as owner:
        await owner.execute("revoke execute on function pg_terminate_backend from public")
        await owner.execute(
            "insert into projector_leases (projection, partition, owner, epoch) values ('runs', 1, $1, 7)",
            new_worker_id(),
        )
        with running(event_store_dsn, fresh_projections, stream_url, tmp_path) as workers:
            await shared_by(fresh_projections, 1)
            assert "sessions_not_ended" in workers.log()


async def test_a_lease_that_somebody_locks_keeps_the_others_with_their_owners(
    fresh_projections: str, event_store_dsn: str, stream_url: str, tmp_path: Path
) -> None:
    async with connected(as_role(fresh_projections, "runroom_projector")) as somebody:
        with running(event_store_dsn, fresh_projections, stream_url, tmp_path) as workers:
            await shared_by(fresh_projections, 1)
            await somebody.execute("set idle_in_transaction_session_timeout = 0; begin")
            await somebody.execute("select from projector_leases where projection = 'runs' for update")
            # Half of them are to be given back now.
            workers.start()
            both = "select count(*) = 2 and min(expires_at) > $1 from projector_workers"
            later = await somebody.fetchval("select clock_timestamp() + interval '8 seconds'")
            async with asyncio.timeout(30):
                while not await somebody.fetchval(both, later):
                    await asyncio.sleep(0.05)
            assert len((await owners(fresh_projections))["room_feed"]) == 2
            await somebody.execute("rollback")
            await shared_by(fresh_projections, 2)
            assert "leases_expired" not in workers.log()


async def test_a_connection_that_is_thrown_away_waits_for_no_lock(fresh_projections: str) -> None:
    session = Session(fresh_projections, "thrown-away", idle_seconds=5.0)
    async with connected(fresh_projections) as other, other.transaction():
        await other.execute("lock table projector_leases in access exclusive mode")
        waiting = asyncio.create_task((await session.get()).fetchval("select count(*) from projector_leases"))
        await until_waiting(other, "thrown-away")
        session.discard()
        await asyncio.gather(waiting, return_exceptions=True)
        await until_waiting(other, "thrown-away", waiting=False)


@pytest.mark.parametrize("cancelled", [False, True], ids=["in time", "cancelled"])
async def test_a_transaction_whose_connection_goes_silent_is_waited_for_once(
    fresh_projections: str, *, cancelled: bool
) -> None:
    async with running_proxy(urlsplit(fresh_projections).port or 0) as proxy, connected(fresh_projections) as other:
        session = Session(through(proxy, fresh_projections), "silent", idle_seconds=5.0, command_timeout=3.0)

        async def write() -> None:
            async with session.transaction() as connection:
                await connection.execute("insert into projector_leases (projection, partition) values ('held', 1)")

        async with other.transaction():
            await other.execute("lock table projector_leases in access exclusive mode")
            writing = asyncio.create_task(write())
            await until_waiting(other, "silent")
            proxy.hold()
            if cancelled:
                writing.cancel()
            # Twice as long as a statement may take is too long.
            await asyncio.wait({writing}, timeout=5.0)
            assert writing.done()
            with pytest.raises(asyncio.CancelledError if cancelled else TimeoutError):
                await writing
        proxy.release()
        assert await (await session.get()).fetchval("select count(*) from projector_leases") == 0
        await session.close()
