"""Writing a plan: a lone event's statement and that of a batch write the same rows, and refuse the same."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest
from msgspec import Raw

from services.command import event_store
from services.command.domain.batch import IdempotencyKey, Loaded, Plan, Request, plan
from services.command.domain.commands import Command, CompleteRun, CreateRun, CreateStep, StartRun
from services.command.domain.decide import Caller
from services.command.domain.run import RunState
from shared.contracts.ids import RoomKey
from shared.postgres import Connection
from tests.support.servers import MigratedDatabases
from tests.unit.command.given import TIME, CountingIds

ROOM = RoomKey("ws", "r")
NOW = datetime(2026, 1, 31, tzinfo=UTC)
DAY = timedelta(days=1)
TABLES = {
    "rooms": "select * from rooms order by room_id",
    "events": "select * from events order by stream_seq",
    "runs": "select * from runs order by run_id",
    "commands": "select * from commands order by idempotency_key",
}


class Ids(CountingIds):
    """Those of events are valid, too: PostgreSQL looks at them."""

    def event_id(self) -> str:
        return f"00000000-0000-0000-0000-{next(self._numbers):012d}"


class Writer:
    """Decides and writes one command at a time in one room, as a lone event or as a batch of one."""

    def __init__(self, dsn: str, connection: Connection, *, lone: bool) -> None:
        self.dsn = dsn
        self.connection = connection
        self._lone = lone
        self._ids = Ids()
        self._runs: dict[str, RunState] = {}
        self.last_seq = 0

    def draft(self, command: Command, key: str | None = None, fingerprint: bytes = b"f") -> Plan:
        idempotency = None if key is None else IdempotencyKey(key, fingerprint)
        request = Request(
            Caller("ws", "agent", "a1"),
            command,
            TIME,
            idempotency,
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01" if key else None,
        )
        return plan([request], Loaded({ROOM: self.last_seq}, dict(self._runs), {}), NOW, self._ids, DAY)

    async def write(self, drafted: Plan, monkeypatch: pytest.MonkeyPatch, now: datetime = NOW) -> str:
        assert len(drafted.events) == 1
        rooms = {ROOM: drafted.events[0].event.stream_seq - 1}
        assert event_store._is_lone(drafted, rooms)
        with monkeypatch.context() as patch:
            if not self._lone:
                patch.setattr(event_store, "_is_lone", lambda *_: False)
            result = await event_store.write(self.connection, drafted, rooms, now)
        if result == "written":
            self._runs |= drafted.runs
            self.last_seq += 1
        return result

    async def rows(self) -> dict[str, list[tuple[object, ...]]]:
        return {name: [tuple(row) for row in await self.connection.fetch(query)] for name, query in TABLES.items()}


@pytest.fixture
async def writers(migrated_databases: MigratedDatabases) -> AsyncIterator[list[Writer]]:
    """One of lone events and one of batches, each with a store of its own and a room in it."""
    writers: list[Writer] = []
    for lone in (True, False):
        dsn = migrated_databases.copy("event_store")
        writers.append(Writer(dsn, await asyncpg.connect(dsn), lone=lone))
        await writers[-1].connection.execute(
            "insert into rooms (workspace_id, room_id) values ('ws', 'r'), ('ws', 's')"
        )
    yield writers
    for writer in writers:
        await writer.connection.close()


async def test_a_lone_event_is_written_as_a_batch_of_one_is(
    writers: list[Writer], monkeypatch: pytest.MonkeyPatch
) -> None:
    for writer in writers:
        created = writer.draft(CreateRun(room_id="r", thread_id="t", input=Raw(b'{"a":[null]}')), "key-1")
        assert await writer.write(created, monkeypatch) == "written"
        run_id = created.events[0].event.run_id
        for command, key in (
            (StartRun(run_id=run_id), None),
            (CreateStep(run_id=run_id, kind="tool"), "key-2"),
            (CompleteRun(run_id=run_id), "key-3"),
        ):
            assert await writer.write(writer.draft(command, key), monkeypatch) == "written"
    lone, batch = [await writer.rows() for writer in writers]
    assert lone == batch
    assert [len(rows) for rows in lone.values()] == [2, 4, 1, 3]


async def test_what_is_not_as_it_was_taken_to_be_refuses_both(
    writers: list[Writer], monkeypatch: pytest.MonkeyPatch
) -> None:
    for writer in writers:
        assert await writer.write(writer.draft(CreateRun(room_id="r"), "key-1"), monkeypatch) == "written"
        before = await writer.rows()
        writer.last_seq = 0
        assert await writer.write(writer.draft(CreateRun(room_id="r")), monkeypatch) == "moved"
        writer.last_seq = 2
        assert await writer.write(writer.draft(CreateRun(room_id="r")), monkeypatch) == "moved"
        writer.last_seq = 1
        assert await writer.write(writer.draft(CreateRun(room_id="r"), "key-1", b"g"), monkeypatch) == "used"
        assert await writer.rows() == before
        # Once its time is over a key is as good as new.
        later = writer.draft(CreateRun(room_id="r"), "key-1", b"g")
        assert await writer.write(later, monkeypatch, NOW + 2 * DAY) == "written"
    lone, batch = [await writer.rows() for writer in writers]
    assert [row[:3] for row in lone["commands"]] == [row[:3] for row in batch["commands"]] == [("ws", "key-1", b"g")]


async def test_a_key_stored_by_another_at_that_moment_takes_all_of_it_back(
    writers: list[Writer], monkeypatch: pytest.MonkeyPatch
) -> None:
    for writer in writers:
        drafted = writer.draft(CreateRun(room_id="r"), "key-1")
        before = await writer.rows()
        other = await asyncpg.connect(writer.dsn)
        try:
            transaction = other.transaction()
            await transaction.start()
            await other.execute("insert into commands values ('ws', 'key-1', 'f', 201, '', $1)", NOW + DAY)
            writing = asyncio.create_task(writer.write(drafted, monkeypatch))
            await asyncio.sleep(0.3)
            assert not writing.done(), "it waits for the other's key"
            await transaction.commit()
            with pytest.raises(event_store.KeyRaceError):
                await writing
        finally:
            await other.close()
        after = await writer.rows()
        assert {**after, "commands": []} == {**before, "commands": []}


async def test_rooms_are_vacuumed_when_most_of_the_table_is_dead(writers: list[Writer]) -> None:
    writer = writers[0]
    # What is at work here is ours alone: autovacuum may come by at any moment.
    await writer.connection.execute("alter table rooms set (autovacuum_enabled = off)")
    async with asyncpg.create_pool(writer.dsn, min_size=1, max_size=1) as pool:
        assert not await event_store.vacuum_rooms(pool)
        for seq in range(1, 11_000):
            await writer.connection.execute("update rooms set last_seq = $1 where room_id = 'r'", seq)
        await writer.connection.execute("select pg_stat_force_next_flush()")
        # What the session has counted reaches the others with its next statement.
        await writer.connection.execute("select 1")
        assert await event_store.vacuum_rooms(pool)
        await pool.execute("select pg_stat_force_next_flush()")
        assert not await event_store.vacuum_rooms(pool)
    dead = await writer.connection.fetchval("select n_dead_tup from pg_stat_user_tables where relname = 'rooms'")
    assert dead < 1000
