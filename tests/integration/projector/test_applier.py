"""A batch that is tried again, as its worker does when nobody knows what became of the first try."""

from __future__ import annotations

import asyncio
import gc
import math
from collections.abc import AsyncGenerator

import pytest

from services.projector.applier import Applier
from services.projector.batch import Batch, Portion
from services.projector.event_source import EventSource
from services.projector.leases import Lease
from services.projector.partition import Partition, Room
from services.projector.projection_store import ProjectionStore
from services.projector.projections.base import Recorded
from services.projector.projections.runs import Runs
from services.projector.session import Session
from shared.contracts.ids import RoomKey
from shared.contracts.subjects import partition_of, room_subject
from shared.messaging.broker import Broker
from shared.postgres import STORE_ERRORS, Connection
from tests.integration.privileges import connected
from tests.integration.projector.history import RoomHistory, store
from tests.support.servers import as_role

KEY = RoomKey("ws", "refused")
SUBJECT = room_subject(*KEY)
PARTITION = partition_of(*KEY)


@pytest.fixture
async def session(projection_dsn: str) -> AsyncGenerator[Session, None]:
    session = Session(as_role(projection_dsn, "runroom_projector"), "test", idle_seconds=2, command_timeout=5)
    yield session
    await session.close()


async def test_a_batch_of_which_only_what_the_table_refuses_is_left_ends_no_worker(
    event_store_dsn: str, projection_dsn: str, session: Session
) -> None:
    """The connection is lost as an event is parked, and by the next try the table takes no row of it any more."""
    history = RoomHistory(KEY.room_id)
    history.garbage(b"{not json")
    await store(event_store_dsn, history.events)
    partition = Partition(Lease(PARTITION, 1, "s", 0))
    before, partition.position = partition.mark(), 7
    batch = Batch([Portion(partition, [(SUBJECT, Recorded(1, 7, b"{not json"))], [], before, partition.mark())])
    room = partition.room(SUBJECT)
    assert room is not None
    source = Session(event_store_dsn, "test", idle_seconds=2)
    writes = ProjectionStore(session, "runs", "worker")
    applier = Applier(Runs(), "runs", writes, EventSource(source), Broker("", name="test"))
    async with connected(projection_dsn) as owner:
        lease = "insert into projector_leases (projection, partition, owner, epoch) values ('runs', $1, 'worker', 1)"
        await owner.execute(lease, PARTITION)
        async with owner.transaction():
            await owner.execute("alter table projector_parked add constraint odd check (room_id <> 'refused')")
            applying = asyncio.create_task(applier.apply(batch))
            await cut_off_who_waits(owner)
            with pytest.raises(STORE_ERRORS):
                await applying
        partition.doubt()
        room.retry_at = math.inf
        await applier.apply(batch)
        assert await found(owner) == (0, None)

        await owner.execute("alter table projector_parked drop constraint odd")
        room.try_now(skip=False)
        await applier.apply(Batch([Portion(partition, [], [room], partition.mark(), partition.mark())]))
        assert await found(owner) == (7, 1)
    await source.close()


async def test_nothing_of_an_event_that_cannot_be_applied_stays_behind(
    event_store_dsn: str, projection_dsn: str, session: Session
) -> None:
    history = RoomHistory("large-and-refused")
    history.created("run_" + "x" * 200, input={"a": [{"": {}}] * 50_000})
    (event,) = history.events
    partition = Partition(Lease(partition_of(*history.key), 1, "s", 0))
    before, partition.position = partition.mark(), 1
    recorded = Recorded(1, 1, event.envelope)
    batch = Batch([Portion(partition, [(room_subject(*history.key), recorded)], [], before, partition.mark())])
    source = Session(event_store_dsn, "test", idle_seconds=2)
    applier = Applier(
        Runs(), "runs", ProjectionStore(session, "runs", "worker"), EventSource(source), Broker("", name="test")
    )
    async with connected(projection_dsn) as owner:
        lease = "insert into projector_leases (projection, partition, owner, epoch) values ('runs', $1, 'worker', 1)"
        await owner.execute(lease, partition.number)
        gc.collect()
        objects = len(gc.get_objects())
        gc.disable()
        try:
            await applier.apply(batch)
            assert len(gc.get_objects()) < objects + 50_000
        finally:
            gc.enable()
        parked = "select count(*) from projector_parked where room_id = $1"
        assert await owner.fetchval(parked, history.key.room_id) == 1
    await source.close()


async def cut_off_who_waits(owner: Connection) -> None:
    """Once somebody does, for the table of what is parked."""
    waiting = (
        "select count(pg_terminate_backend(pid)) from pg_locks"
        " where relation = 'projector_parked'::regclass and not granted"
    )
    async with asyncio.timeout(20):
        while not await owner.fetchval(waiting):
            await asyncio.sleep(0.02)


async def found(owner: Connection) -> tuple[int, int | None]:
    """The partition's checkpoint, and the event that is parked."""
    row = await owner.fetchrow(
        "select stream_position, (select stream_seq from projector_parked) from projector_leases where partition = $1",
        PARTITION,
    )
    assert row is not None
    return row[0], row[1]


async def test_a_parked_event_that_somebody_has_locked_keeps_no_other_room_waiting(
    event_store_dsn: str, projection_dsn: str, session: Session
) -> None:
    """It is tried again in one batch with another room's events, as an operator's command changes its row."""
    locked = RoomHistory("locked")
    locked.garbage(b"{not json")
    other = next(
        RoomHistory(name)
        for name in (f"other{number}" for number in range(1000))
        if partition_of("ws", name) == partition_of(*locked.key)
    )
    other.run()
    await store(event_store_dsn, locked.events + other.events)
    partition = Partition(Lease(partition_of(*locked.key), 1, "s", 0))
    rooms = [partition.room(room_subject(*history.key)) for history in (locked, other)]
    source = Session(event_store_dsn, "test", idle_seconds=2)
    applier = Applier(
        Runs(), "runs", ProjectionStore(session, "runs", "worker"), EventSource(source), Broker("", name="test")
    )
    attempts = "select attempts from projector_parked where room_id = 'locked'"

    async def apply_due(room: Room | None, seq: int) -> None:
        assert room is not None
        room.want(seq)
        room.try_now(skip=False)
        await applier.apply(Batch([Portion(partition, [], [room], partition.mark(), partition.mark())]))

    async with connected(projection_dsn) as owner:
        lease = (
            "insert into projector_leases (projection, partition, owner, epoch) values ('runs', $1, 'worker', 1)"
            " on conflict (projection, partition) do update set owner = 'worker', epoch = 1"
        )
        await owner.execute(lease, partition.number)
        await apply_due(rooms[0], 1)
        assert await owner.fetchval(attempts) == 1
        async with owner.transaction():
            await owner.execute("update projector_parked set wanted = 'retry' where room_id = 'locked'")
            for room, history in zip(rooms, (locked, other), strict=True):
                await apply_due(room, history.head)
            assert await owner.fetchval("select applied_seq from proj_rooms where room_id = $1", other.key.room_id)
        assert await owner.fetchval(attempts) == 1
        await apply_due(rooms[0], 1)
        assert await owner.fetchval(attempts) == 2
        assert await owner.fetchval("select wanted from projector_parked where room_id = 'locked'") is None
    await source.close()
