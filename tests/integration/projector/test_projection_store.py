"""Large batches go in by COPY, small ones by statements: the rows are the same."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import asyncpg
import pytest

from services.projector import projection_store
from services.projector.projection_store import Advance, Mark, PoisonError, ProjectionStore
from services.projector.projections.base import Projection, Recorded, RoomEvents, Write
from services.projector.projections.room_feed import RoomFeed
from services.projector.projections.runs import Runs
from services.projector.session import Session
from shared.contracts.ids import RoomKey
from shared.contracts.subjects import partition_of
from tests.integration.projector.history import RoomHistory, Stored
from tests.integration.projector.workers import dump
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
        writes = self._projection.fold([RoomEvents(key, recorded)])
        partition, head = partition_of(*key), events[-1].seq
        await self._store.apply(writes, [Advance(key, partition, 1, head)], [Mark(partition, 1, "s/0", head)])
        return writes


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


@pytest.mark.parametrize("number", [1, projection_store._COPIED_ROWS], ids=["by a statement", "by COPY"])
async def test_a_number_that_is_no_bigint_is_poison(databases: Databases, number: int) -> None:
    history = awkward_history()
    async with Worker(databases(), RoomFeed()) as worker:
        with pytest.raises(PoisonError):
            await worker.apply(history.key, history.events[:number], behind=2**63)
