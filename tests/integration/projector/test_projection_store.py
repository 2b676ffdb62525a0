"""Large batches go in by COPY, small ones by statements: the rows are the same."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence

import asyncpg
import pytest

from services.projector import projection_store
from services.projector.projection_store import Advance, Mark, PoisonError, ProjectionStore
from services.projector.projections.base import Projection, Recorded, RoomEvents, Write, fold
from services.projector.projections.room_feed import RoomFeed
from services.projector.projections.runs import Runs
from services.projector.session import Session
from shared.contracts.ids import RoomKey
from shared.contracts.subjects import partition_of
from tests.integration.projector.history import RoomHistory, Stored
from tests.integration.projector.workers import dump, until_waiting
from tests.support.servers import MigratedDatabases

AWKWARD = [
    '"',
    "'",
    "\\",
    "\\.",
    "\\N",
    "a,b",
    "a\nb\r\nc",
    "\t",
    "",
    " ",
    "null",
    "NULL",
    "ünï 🚀",
    "{}",
    "$1",
    "\x7f",
]

Databases = Callable[[], str]


@pytest.fixture
def databases(migrated_databases: MigratedDatabases) -> Databases:
    return lambda: migrated_databases.copy("projections")


class Worker:
    """One that owns every partition of one projection."""

    def __init__(self, dsn: str, projection: Projection) -> None:
        self._session = Session(dsn, "test", idle_seconds=2)
        self._store = ProjectionStore(self._session, projection.name, "worker")
        self._projection = projection

    async def __aenter__(self) -> Worker:
        connection = await self._session.get()
        await connection.executemany(
            "insert into projector_leases (projection, partition, owner, epoch) values ($1, $2, 'worker', 1)"
            " on conflict do nothing",
            [(self._projection.name, partition) for partition in range(32)],
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()

    async def apply(self, key: RoomKey, events: Sequence[Stored], *, behind: int = 0) -> list[Write]:
        """The events as if they stood on the stream from after that position on."""
        recorded = [Recorded(event.seq, behind + event.seq, event.envelope) for event in events]
        writes = fold(self._projection, [RoomEvents(key, recorded)])
        partition, head = partition_of(*key), events[-1].seq
        await self._store.apply(writes, [Advance(key, partition, 1, head)], [Mark(partition, 1, "s/0", head)])
        return writes

    async def apply_all(self, rooms: Sequence[RoomHistory]) -> None:
        """In one batch."""
        advances = [Advance(room.key, partition_of(*room.key), 1, room.head) for room in rooms]
        marks = [Mark(partition, 1, "s/0", 1) for partition in {advance.partition for advance in advances}]
        await self._store.apply(self.fold(rooms), advances, marks)

    def fold(self, rooms: Sequence[RoomHistory]) -> list[Write]:
        return fold(
            self._projection,
            [RoomEvents(room.key, [Recorded(e.seq, e.seq, e.envelope) for e in room.events]) for room in rooms],
        )


def awkward_history() -> RoomHistory:
    history = RoomHistory("awkward")
    for number in range(projection_store._COPIED_ROWS):
        text = AWKWARD[number % len(AWKWARD)]
        run_id = f"run_{number:026d}"
        tags = tuple(tag for tag in dict.fromkeys([text, text + "x"]) if tag)
        history.created(run_id, title=text, goal=text, input={"text": text, text: [None, text]}, tags=tags)
        history.started(run_id)
        history.step(run_id)
        if number % 3:
            history.completed(run_id)
    return history


@pytest.mark.parametrize("projection", [Runs(), RoomFeed()])
async def test_one_large_batch_and_many_small_ones_write_the_same_rows(
    databases: Databases, projection: Projection
) -> None:
    history = awkward_history()
    large, small = databases(), databases()
    async with Worker(large, projection) as worker:
        writes = await worker.apply(history.key, history.events)
    assert all(len(write.columns[0]) >= projection_store._COPIED_ROWS for write in writes), "COPY was not used"
    async with Worker(small, projection) as worker:
        for event in history.events:
            await worker.apply(history.key, [event])
    assert await dump(large) == await dump(small)


async def test_rows_that_are_there_already_are_passed_over(databases: Databases) -> None:
    history = awkward_history()
    plain, dsn = databases(), databases()
    async with Worker(plain, RoomFeed()) as worker:
        await worker.apply(history.key, history.events)
    connection = await asyncpg.connect(dsn)
    event = history.events[40]
    await connection.execute(
        "insert into proj_room_events (workspace_id, room_id, stream_seq, stream_position, envelope)"
        " values ($1, $2, $3, $3, $4)",
        *history.key,
        event.seq,
        event.envelope,
    )
    await connection.close()
    async with Worker(dsn, RoomFeed()) as worker:
        await worker.apply(history.key, history.events)
    assert await dump(dsn) == await dump(plain)


async def test_what_copy_cannot_take_is_poison_and_nothing_of_the_batch_is_there(databases: Databases) -> None:
    dsn = databases()
    before = await dump(dsn)
    history = awkward_history()
    history.created("run_bad", title="a\0b")
    async with Worker(dsn, Runs()) as worker:
        with pytest.raises(PoisonError):
            await worker.apply(history.key, history.events)
    assert await dump(dsn) == before


def create(room: RoomHistory, own: RoomHistory, run_id: str) -> None:
    room.created(run_id)


def end(room: RoomHistory, own: RoomHistory, run_id: str) -> None:
    room.completed(run_id)


def take_the_step(room: RoomHistory, own: RoomHistory, run_id: str) -> None:
    """Into a run of the room's own."""
    step = next(event for event in own.events if (event.run_id, event.event_type) == (run_id, "step.created"))
    room.created(f"{run_id}_of_mine")
    room.step(f"{run_id}_of_mine", step_id=json.loads(step.envelope)["step_id"])


@pytest.mark.parametrize("number", [1, projection_store._COPIED_ROWS], ids=["by a statement", "by COPY"])
@pytest.mark.parametrize("forge", [create, end, take_the_step])
async def test_an_event_about_what_is_another_rooms_is_poison(
    databases: Databases, forge: Callable[[RoomHistory, RoomHistory, str], None], number: int
) -> None:
    dsn, own, other = databases(), awkward_history(), RoomHistory("other", "ws_other")
    for _ in own.events:
        other.run(steps=0)  # so that its numbers are the higher ones
    async with Worker(dsn, Runs()) as worker:
        await worker.apply(own.key, own.events)
        await worker.apply(other.key, other.events)
        before = await dump(dsn)
        head = other.head
        for run_id in list(dict.fromkeys(event.run_id for event in own.events))[:number]:
            forge(other, own, run_id)
        with pytest.raises(PoisonError):
            await worker.apply(other.key, other.events[head:])
    assert await dump(dsn) == before


@pytest.mark.parametrize("number", [1, projection_store._COPIED_ROWS], ids=["by a statement", "by COPY"])
async def test_a_run_is_created_once_and_its_events_may_come_again(databases: Databases, number: int) -> None:
    dsn, history = databases(), awkward_history()
    async with Worker(dsn, Runs()) as worker:
        await worker.apply(history.key, history.events)
        before = await dump(dsn)
        await worker.apply(history.key, history.events)
        assert await dump(dsn) == before
        head = history.head
        for run_id in list(dict.fromkeys(event.run_id for event in history.events))[:number]:
            history.created(run_id)
        with pytest.raises(PoisonError):
            await worker.apply(history.key, history.events[head:])
    assert await dump(dsn) == before


async def test_two_rooms_that_create_a_run_in_one_batch_are_poison(databases: Databases) -> None:
    dsn = databases()
    before = await dump(dsn)
    rooms = [RoomHistory(name) for name in ("one", "other")]
    for room in rooms:
        room.created("run_1")
    async with Worker(dsn, Runs()) as worker:
        with pytest.raises(PoisonError):
            await worker.apply_all(rooms)
    assert await dump(dsn) == before


@pytest.mark.parametrize("what", ["run", "step"])
async def test_of_two_rooms_that_create_the_same_the_one_that_is_there_first_has_it(
    databases: Databases, what: str
) -> None:
    """The other has looked before, and comes upon it as it writes."""
    dsn = databases()
    first, second = RoomHistory("first"), RoomHistory("second", "ws_other")
    first.created("run_1")
    first.step("run_1")
    if what == "run":
        second.created("run_1")
    else:
        take_the_step(second, first, "run_1")
    owner = await asyncpg.connect(dsn)
    async with Worker(dsn, Runs()) as worker, Worker(dsn, Runs()) as other:
        transaction = owner.transaction()
        await transaction.start()
        for write in worker.fold([first]):
            assert await owner.fetch(projection_store._SQL[write.query], *write.columns) == []
        applying = asyncio.create_task(other.apply(second.key, second.events))
        await until_waiting(owner, "test")
        await transaction.commit()
        with pytest.raises(PoisonError):
            await applying
    found = await dump(dsn)
    await owner.close()
    assert [(row[0], row[2]) for row in found["runs"]] == [("run_1", "first")]
    assert [row[3] for row in found["steps"]] == ["first"]


@pytest.mark.parametrize("number", [1, projection_store._COPIED_ROWS], ids=["by a statement", "by COPY"])
async def test_a_number_that_is_no_bigint_is_poison(databases: Databases, number: int) -> None:
    history = awkward_history()
    async with Worker(databases(), RoomFeed()) as worker:
        with pytest.raises(PoisonError):
            await worker.apply(history.key, history.events[:number], behind=2**63)
