"""Events that cannot be applied in hundreds of rooms at once: the others are applied before all that is through."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import suppress

import pytest

from services.projector.applier import MOST_TRIES, Applier
from services.projector.batch import MOST_DUE_ROOMS, Batch, take_batch, take_due
from services.projector.consumer import Consumer
from services.projector.event_source import EventSource
from services.projector.leases import Lease
from services.projector.partition import Partition, Room, Turn
from services.projector.projection_store import Advance, Mark, Park, ProjectionStore
from services.projector.projections.base import Recorded, Write
from services.projector.projections.runs import Runs
from services.projector.runner import Runner
from services.projector.session import Session
from services.projector.stream_watch import StreamWatch
from shared.contracts.ids import RoomKey
from shared.contracts.subjects import PARTITIONS, partition_of, room_subject
from shared.messaging.broker import Broker
from tests.integration.projector.history import RoomHistory, Stored, store
from tests.support.servers import MigratedDatabases

POISONED = 300
ODD = "odd"
"""A title that the table of these tests refuses, without saying in which room."""


class Counting(ProjectionStore):
    """Counts what is tried; ``on_try`` is told each."""

    tries = 0
    parkings = 0
    applied: list[RoomKey]
    on_try: Callable[[int], None] = staticmethod(lambda number: None)

    async def apply(
        self,
        writes: Sequence[Write],
        advances: Sequence[Advance],
        marks: Sequence[Mark],
        parks: Sequence[Park] = (),
        skips: Sequence[tuple[RoomKey, int]] = (),
    ) -> None:
        if writes:
            self.tries += 1
            self.on_try(self.tries)
        self.parkings += bool(parks)
        await super().apply(writes, advances, marks, parks, skips)
        self.applied += [advance.key for advance in advances]


class Worker:
    """One that owns everything, and has what it reads put into its hands."""

    def __init__(self, event_store_dsn: str, projection_dsn: str) -> None:
        self.event_store_dsn = event_store_dsn
        self.session = Session(projection_dsn, "test", idle_seconds=10)
        self._source = Session(event_store_dsn, "test", idle_seconds=10)
        self.store = Counting(self.session, "runs", "worker")
        self.store.applied = []
        broker = Broker("", name="test")
        self.applier = Applier(Runs(), "runs", self.store, EventSource(self._source), broker)
        self.runner = Runner("runs", self.applier, broker, StreamWatch(broker))
        self.runner.grant([Lease(number, 1, "s/0", 0) for number in range(PARTITIONS)])
        for partition in self.partitions:
            partition.consumer = Consumer("test", partition.number, 1, "s/0")
            partition.consumer.asked()  # and is not to be asked again
        self._position = 0

    @property
    def partitions(self) -> list[Partition]:
        return self.runner.partitions()

    @property
    def behind(self) -> list[Room]:
        return [room for partition in self.partitions for room in partition.behind.values()]

    async def begin(self) -> None:
        connection = await self.session.get()
        await connection.execute(
            "insert into projector_leases (projection, partition, owner, epoch)"
            " select 'runs', number, 'worker', 1 from generate_series(0, 31) as number"
        )
        await connection.execute(f"alter table proj_runs_v1 add constraint odd check (title <> '{ODD}')")

    async def close(self) -> None:
        await self.session.close()
        await self._source.close()

    async def arrive(self, rooms: Sequence[RoomHistory]) -> None:
        """The rooms' events are in the event store and come by the stream."""
        events = [event for room in rooms for event in room.events]
        await store(self.event_store_dsn, events, states=False)
        self.receive(events)

    def receive(self, events: Sequence[Stored]) -> None:
        by_number = {partition.number: partition for partition in self.partitions}
        for event in events:
            self._position += 1
            consumer = by_number[partition_of(*event.key)].consumer
            assert consumer is not None
            consumer.buffer.append((room_subject(*event.key), Recorded(event.seq, self._position, event.envelope)))

    async def apply(self, batch: Batch) -> int:
        """How many tries that took."""
        before = self.store.tries
        await self.applier.apply(batch)
        return self.store.tries - before

    async def parked(self) -> int:
        return await (await self.session.get()).fetchval("select count(*) from projector_parked")


@pytest.fixture
async def worker(migrated_databases: MigratedDatabases) -> AsyncGenerator[Worker, None]:
    worker = Worker(migrated_databases.copy("event_store"), migrated_databases.copy("projections"))
    await worker.begin()
    yield worker
    await worker.close()


def well(room_id: str) -> RoomHistory:
    room = RoomHistory(room_id)
    room.run(steps=1)
    return room


def poisoned(kind: str) -> list[RoomHistory]:
    rooms = [RoomHistory(f"poisoned-{number}") for number in range(POISONED)]
    for number, room in enumerate(rooms):
        match kind:
            case "taken":
                room.created("run_taken")
            case "odd":
                room.created(f"run_odd_{number}", title=ODD)
            case "unreadable":
                room.garbage(b"{not json")
            case _:
                room.run(steps=1)
                room.started("run_taken")
    return rooms


@pytest.mark.parametrize("kind", ["taken", "unreadable", "behind_others"])
async def test_what_is_said_to_be_unfit_is_singled_out_all_at_once(worker: Worker, kind: str) -> None:
    owner = RoomHistory("owner")
    owner.created("run_taken")
    await worker.arrive([owner])
    await worker.apply(take_batch(worker.partitions))
    wells = [well(f"well-{number}") for number in range(20)]
    rooms = poisoned(kind)
    await worker.arrive([room for number in range(20) for room in (*rooms[number::20], wells[number])])
    while (batch := take_batch(worker.partitions)).portions:
        assert await worker.apply(batch) < 10
    assert {room.key for room in wells} <= set(worker.store.applied)
    assert await worker.parked() == POISONED
    assert worker.store.parkings <= 2, "one statement for all of a batch"


async def test_a_batch_of_which_nobody_says_what_is_unfit_is_tried_so_often_and_no_more(worker: Worker) -> None:
    rooms = poisoned("odd")
    between = [well(f"between-{number}") for number in range(10)]
    await worker.arrive([*rooms[:100], *between, *rooms[100:]])
    assert await worker.apply(take_batch(worker.partitions)) <= MOST_TRIES + 1
    last = well("last")
    await worker.arrive([last])
    assert await worker.apply(take_batch(worker.partitions)) == 1, "what comes next does not wait for the rest"
    assert worker.store.applied[-1] == last.key

    # An event of a suspect room waits for those before it.
    between[-1].run(steps=0)
    await store(worker.event_store_dsn, between[-1].events[-3:], states=False)
    worker.receive(between[-1].events[-3:])
    await worker.apply(take_batch(worker.partitions))
    now = max(room.retry_at for room in worker.behind if room.is_suspect)
    while (batch := take_due(worker.partitions, now, Turn.RETRY)).portions:
        assert sum(len(portion.due) for portion in batch.portions) <= MOST_DUE_ROOMS
        assert await worker.apply(batch) <= MOST_TRIES + 1
    assert await worker.parked() == POISONED
    while (batch := take_due(worker.partitions, now, Turn.FIRST)).portions:
        await worker.apply(batch)
    assert {room.key for room in between} <= set(worker.store.applied)
    assert sorted(room.key for room in worker.behind) == sorted(room.key for room in rooms)


async def test_a_room_that_is_well_does_not_wait_until_all_others_are_tried(worker: Worker) -> None:
    rooms = poisoned("odd")
    await worker.arrive(rooms)
    late = well("late")
    await store(worker.event_store_dsn, late.events, states=False)
    applied = asyncio.Event()
    tries = 0

    def on_try(number: int) -> None:
        nonlocal tries
        if number == 5:
            worker.receive(late.events)
        if late.key in worker.store.applied and not applied.is_set():
            tries = number
            applied.set()

    worker.store.on_try = on_try
    working = asyncio.create_task(worker.runner._apply_batches())
    async with asyncio.timeout(60):
        await applied.wait()
    working.cancel()
    with suppress(asyncio.CancelledError):
        await working
    # The batch it came during, one of what was left over, and its own, of which the next try knows.
    assert tries <= 2 * (MOST_TRIES + 1) + 2
    assert await worker.parked() < POISONED
