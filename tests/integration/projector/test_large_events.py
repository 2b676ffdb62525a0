"""Events that are large: a page of them is never in memory at once, nor asked of PostgreSQL at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import asyncpg
import pytest
from asyncpg import cursor

from services.projector.projections.base import RoomEvents
from services.projector.projections.runs import Changes
from services.projector.rebuild import fill
from services.projector.verify import rooms
from services.projector.verify.report import Report
from services.projector.verify.rooms import Page, RoomsCheck
from shared.contracts.ids import RoomKey
from shared.postgres import connected
from tests.integration.projector.history import RoomHistory, Stored, store
from tests.support.servers import MigratedDatabases

SIZE = 1_000_000
MOST_BYTES = 16 * 1024 * 1024
ALL = Page(RoomKey("", ""), None)


@pytest.fixture
def fetched(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """The bytes of the envelopes of each answer to a cursor."""
    answers: list[int] = []

    def counting(ask: Any) -> Any:
        async def asked(self: Any, most_rows: int, timeout: float | None) -> Sequence[asyncpg.Record]:  # noqa: ASYNC109
            rows = await ask(self, most_rows, timeout)
            answers.append(sum(len(row.get("envelope") or b"") for row in rows))
            return rows

        return asked

    # There is no public way to see what one fetch of a cursor that is gone through has brought.
    for name in ("_bind_exec", "_exec"):
        monkeypatch.setattr(cursor.BaseCursor, name, counting(getattr(cursor.BaseCursor, name)))
    yield answers
    assert answers


def large(room_id: str, number: int) -> list[Stored]:
    """A room in which every fourth event is large."""
    history = RoomHistory(room_id)
    for each in range(number):
        history.run(steps=1, end=None)
        history.created(f"run_{room_id}_{each}", input={"x": SIZE * "x"})
    return history.events


async def test_a_version_is_filled_with_large_events(migrated_databases: MigratedDatabases, fetched: list[int]) -> None:
    event_store, projections = migrated_databases.copy("event_store"), migrated_databases.copy("projections")
    events = [*large("a", 30), *RoomHistory("b").run(), *large("c", 30)]
    await store(event_store, events)
    target = fill.Target(event_store, projections, "room_feed", 1, "room_feed")
    async with connected(projections, "test") as connection:
        await connection.executemany(
            "insert into proj_rooms values ('room_feed', 'ws', $1, 0, 0)", [("a",), ("b",), ("c",)]
        )
        filled = await fill.fill_pages(target, [ALL], lambda _: None)
        rows = await connection.fetch("select room_id, stream_seq, envelope from proj_room_events order by 1, 2")
    assert filled.left == []
    assert [(row[0], row[1], row[2]) for row in rows] == [(e.key.room_id, e.seq, e.envelope) for e in events]
    assert max(fetched) <= MOST_BYTES


async def test_large_events_are_compared(migrated_databases: MigratedDatabases, fetched: list[int]) -> None:
    event_store, projections = migrated_databases.copy("event_store"), migrated_databases.copy("projections")
    events = [*large("a", 30), *RoomHistory("b").run(), *large("c", 30)]
    await store(event_store, events)
    rows = [(*event.key, event.seq, 0, event.envelope) for event in events]
    last = rows[-1]
    rows[-1] = (*last[:-1], last[-1][:-1] + b" ")
    lines: list[str] = []
    async with connected(event_store, "test") as store_connection, connected(projections, "test") as connection:
        heads = {event.key: event.seq for event in events}
        await connection.executemany(
            "insert into proj_rooms values ('room_feed', $1, $2, 0, $3)", [(*key, head) for key, head in heads.items()]
        )
        await connection.executemany("insert into proj_room_events values ($1, $2, $3, $4, $5)", rows)
        seen = await RoomsCheck(store_connection, connection, Report(lines.append)).compare(ALL)
    assert {key: room.last_seq for key, room in seen.items()} == heads
    assert lines == [f"differs  ws/c  room_feed: event {last[2]} has other bytes than the one stored"]
    assert max(fetched) <= MOST_BYTES


async def test_what_was_folded_is_compared_room_by_room(
    migrated_databases: MigratedDatabases, monkeypatch: pytest.MonkeyPatch
) -> None:
    folded: list[int] = []
    asked: list[int] = []

    class Folded(Changes):
        def __init__(self) -> None:
            super().__init__()
            folded.append(0)

        def add(self, room: RoomEvents) -> None:
            super().add(room)
            folded[-1] += sum(len(recorded.envelope) for recorded in room.events)

    class Asked(asyncpg.Connection):  # pyright: ignore[reportMissingTypeArgument]
        async def fetch(self, query: str, *args: Any, **options: Any) -> list[Any]:
            columns = [column for column in args if isinstance(column, list)]
            asked.append(sum(len(value) for column in columns for value in column if isinstance(value, str)))
            return await super().fetch(query, *args, **options)

    monkeypatch.setattr(rooms, "Changes", Folded)
    event_store, projections = migrated_databases.copy("event_store"), migrated_databases.copy("projections")
    events = [event for room in "abcdef" for event in large(room, 15)]
    await store(event_store, events)
    report = Report(lambda _: None)
    connection = await asyncpg.connect(projections, connection_class=Asked)
    try:
        await connection.executemany(
            "insert into proj_rooms values ('runs', 'ws', $1, 0, $2)", [(room, len(events) // 6) for room in "abcdef"]
        )
        async with connected(event_store, "test") as store_connection:
            await RoomsCheck(store_connection, connection, report).compare(ALL)
    finally:
        await connection.close()
    # Two runs and a step are missing for each large event.
    assert report.differences == len(events) // 4 * 3
    assert sum(folded) == sum(len(event.envelope) for event in events)
    assert max(folded) <= 3 * MOST_BYTES
    assert max(asked) <= 2 * MOST_BYTES
