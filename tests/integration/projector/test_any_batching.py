"""Whatever somebody writes into a room, in whatever batches it comes: the same rows, and the same events parked.

What a run's events say in an order that no command has them in is written by hand, and of a form that the event store
takes. Parked events are skipped, so that the room goes on. The sequences are made by hypothesis, the same each time.
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import asyncpg
import pytest
from hypothesis import Phase, example, given, settings
from hypothesis import strategies as st
from msgspec import UNSET

from services.projector.applier import Applier
from services.projector.batch import Batch, Portion
from services.projector.event_source import EventSource
from services.projector.leases import Lease
from services.projector.partition import Partition
from services.projector.projection_store import ProjectionStore
from services.projector.projections.base import Recorded
from services.projector.projections.runs import Runs
from services.projector.rebuild import fill
from services.projector.session import Session
from services.projector.verify.report import Report
from services.projector.verify.rooms import Page, RoomsCheck
from shared.contracts.ids import RoomKey
from shared.contracts.subjects import partition_of, room_subject
from shared.messaging.broker import Broker
from shared.postgres import Connection
from tests.integration.projector.history import RoomHistory, Stored, store
from tests.support.servers import MigratedDatabases

SEQUENCES = settings(
    max_examples=25, derandomize=True, database=None, deadline=None, phases=[Phase.explicit, Phase.generate]
)
ALL = Page(RoomKey("", ""), None)
KINDS = ("created", "started", "step", "completed", "failed")
SUMMARIES = (UNSET, "done", "a\0b")
ERRORS = (UNSET, {"code": 7})
FOUND = (
    "select * from proj_runs order by run_id",
    "select * from proj_steps order by step_id",
    "select room_id, stream_seq, error from projector_parked where skipped_at is not null order by room_id, stream_seq",
)


class Drawn(NamedTuple):
    """One event to be: of which of two runs, and which of two steps or of the values there are."""

    kind: str
    run: int
    value: int
    has_id: bool
    ends_batch: bool
    is_dated: bool = True


DRAWN = st.builds(
    Drawn,
    st.sampled_from(KINDS),
    st.integers(0, 1),
    st.integers(0, 2),
    st.integers(0, 9).map(bool),
    st.booleans(),
)

HIDDEN_TEXT = Drawn("completed", 0, 2, has_id=True, ends_batch=False)
HIDDEN_ID = Drawn("started", 0, 0, has_id=False, ends_batch=False)
HIDDEN_TIME = Drawn("started", 0, 0, has_id=True, ends_batch=False, is_dated=False)
ENDED = Drawn("completed", 0, 1, has_id=True, ends_batch=False)


def history(room_id: str, drawn: Sequence[Drawn]) -> RoomHistory:
    room = RoomHistory(room_id)
    for event in drawn:
        run_id = f"run_{room_id}_{event.run}"
        match event.kind:
            case "created":
                room.created(run_id, title=f"Run {event.value}")
            case "started":
                room.started(run_id)
            case "step":
                room.step(run_id, step_id=f"step_{room_id}_{event.value}")
            case "completed":
                room.completed(run_id, summary=SUMMARIES[event.value], **({"output": UNSET} if event.value else {}))
            case _:
                room.failed(run_id, error=ERRORS[event.value % 2], message=UNSET if event.value == 2 else "no luck")
        if not event.has_id:
            room.events[-1] = saying(room.events[-1], event_id="none")
        if not event.is_dated:
            room.events[-1] = saying(room.events[-1], occurred_at="1999-12-31T23:59:59.999999Z")
    return room


def saying(event: Stored, **members: str) -> Stored:
    """Its envelope says something else than the store does, and of no form that a table takes."""
    return event._replace(envelope=json.dumps(json.loads(event.envelope) | members).encode())


def batches(room: RoomHistory, drawn: Sequence[Drawn]) -> list[list[Stored]]:
    ends = [0, *(number for number, event in enumerate(drawn[:-1], 1) if event.ends_batch), len(drawn)]
    return [room.events[start:end] for start, end in pairwise(ends)]


class Projections:
    """One projection database, and a worker that owns all of it. Whatever it parks is skipped."""

    def __init__(self, dsn: str, event_store_dsn: str) -> None:
        self.dsn = dsn
        self.session = Session(dsn, "test", idle_seconds=5)
        self._source = Session(event_store_dsn, "test", idle_seconds=5)
        store = ProjectionStore(self.session, "runs", "worker")
        self._applier = Applier(Runs(), "runs", store, EventSource(self._source), Broker("", name="test"))

    async def close(self) -> None:
        await self.session.close()
        await self._source.close()

    async def begin(self, room: RoomHistory, applied_seq: int = 0) -> None:
        """Has the worker own the room's partition, and the room be one that was applied so far."""
        connection = await self.session.get()
        number = partition_of(*room.key)
        await connection.execute(
            "insert into projector_leases (projection, partition, owner, epoch) values ('runs', $1, 'worker', 1)"
            " on conflict do nothing",
            number,
        )
        await connection.execute(
            "insert into proj_rooms values ('runs', $1, $2, $3, $4)"
            " on conflict (projection, workspace_id, room_id) do update set applied_seq = $4",
            *room.key,
            number,
            applied_seq,
        )

    async def apply(self, room: RoomHistory, parts: Sequence[Sequence[Stored]], head: int) -> None:
        """The batches as they come from the stream, and what is left, up to ``head``, from the event store."""
        partition = Partition(Lease(partition_of(*room.key), 1, "s/0", 0))
        subject = room_subject(*room.key)
        known = partition.room(subject)
        assert known is not None
        for part in parts:
            before, partition.position = partition.mark(), part[-1].seq
            messages = [(subject, Recorded(event.seq, event.seq, event.envelope)) for event in part]
            await self._applier.apply(Batch([Portion(partition, messages, [], before, partition.mark())]))
        known.want(head)
        for _ in range(head + 1):  # as often as there is an event to be skipped, and once more
            if known.applied_seq == head:
                break
            known.try_now(skip=known.held_at > 0)
            mark = partition.mark()
            await self._applier.apply(Batch([Portion(partition, [], [known], mark, mark)]))
        assert known.applied_seq == head

    async def found(self) -> dict[str, list[dict[str, Any]]]:
        """By room: its rows, and what was parked and why."""
        connection = await self.session.get()
        found: dict[str, list[dict[str, Any]]] = {}
        for query in FOUND:
            for row in await connection.fetch(query):
                found.setdefault(row["room_id"], []).append(dict(row))
        return found

    async def verify(self, event_store: Connection) -> list[str]:
        differences: list[str] = []
        check = RoomsCheck(event_store, await self.session.get(), Report(differences.append))
        await check.compare(ALL)
        return differences


class Ways(NamedTuple):
    """The event store, and one database for each way to its projections."""

    event_store: Connection
    event_store_dsn: str
    one_by_one: Projections
    batched: Projections
    rebuilt: Projections

    @property
    def projections(self) -> list[Projections]:
        return [self.one_by_one, self.batched, self.rebuilt]


class Example(NamedTuple):
    room: RoomHistory
    parts: list[list[Stored]]

    def __str__(self) -> str:
        return "\n".join(" | ".join(f"{event.seq} {_said(event)}" for event in part) for part in self.parts)


def _said(event: Stored) -> str:
    told = json.loads(event.envelope)
    return f"{event.event_type} {told['data']} {told['event_id']}"


def sequences(name: str) -> list[Example]:
    found: list[Example] = []

    @SEQUENCES
    @given(st.lists(DRAWN, max_size=9), st.booleans())
    @example([HIDDEN_TEXT, ENDED], True)
    @example([HIDDEN_ID, ENDED], True)
    @example([HIDDEN_TIME, HIDDEN_TIME._replace(is_dated=True)], True)
    def collect(drawn: list[Drawn], ends_batch: bool) -> None:
        drawn = [Drawn("created", 0, 0, has_id=True, ends_batch=ends_batch), *drawn]
        room = history(f"{name}-{len(found):04}", drawn)
        found.append(Example(room, batches(room, drawn)))

    collect()
    return found


@pytest.fixture(scope="module")
async def ways(migrated_databases: MigratedDatabases) -> AsyncGenerator[Ways, None]:
    dsn = migrated_databases.copy("event_store")
    projections = [Projections(migrated_databases.copy("projections"), dsn) for _ in range(3)]
    event_store = await asyncpg.connect(dsn)
    yield Ways(event_store, dsn, *projections)
    for each in projections:
        await each.close()
    await event_store.close()


async def test_rows_and_what_is_parked_are_the_same_in_any_batching_and_by_rebuild(
    ways: Ways, monkeypatch: pytest.MonkeyPatch
) -> None:
    examples = sequences("any")
    await store(ways.event_store_dsn, [event for room, _ in examples for event in room.events])
    for room, parts in examples:
        for projections in ways.projections:
            await projections.begin(room)
        await ways.one_by_one.apply(room, [[event] for event in room.events], room.head)
        await ways.batched.apply(room, parts, room.head)
    expected = await ways.one_by_one.found()
    same(await ways.batched.found(), expected, examples)

    monkeypatch.setattr(fill, "SLICE_EVENTS", 4)
    target = fill.Target(ways.event_store_dsn, ways.rebuilt.dsn, "runs", 1, "runs")
    left = (await fill.fill_pages(target, [ALL], lambda _: None)).left
    for room, _ in examples:
        if room.key in left:
            await ways.rebuilt.apply(room, [], room.head)
    same(await ways.rebuilt.found(), expected, examples)

    for projections in ways.projections:
        assert await projections.verify(ways.event_store) == []


async def test_what_was_applied_changes_nothing_and_is_not_parked_when_it_comes_again(ways: Ways) -> None:
    """A repair by hand, as that of a table from a backup, has rows there already as their events come."""
    examples = sequences("again")
    await store(ways.event_store_dsn, [event for room, _ in examples for event in room.events])
    for room, parts in examples:
        await ways.batched.begin(room)
        await ways.batched.apply(room, parts, room.head)
    expected = await ways.batched.found()
    for number, (room, parts) in enumerate(examples):
        skipped = [row["stream_seq"] for row in expected[room.key.room_id] if "error" in row and "run_id" not in row]
        head = min(skipped, default=room.head + 1) - 1
        await ways.batched.begin(room, head // 2 if number % 2 else 0)
        again = [[event for event in part if event.seq <= head] for part in parts]
        await ways.batched.apply(room, [part for part in again if part], head)
    same(await ways.batched.found(), expected, examples)


def same(found: dict[str, list[dict[str, Any]]], expected: dict[str, list[dict[str, Any]]], examples: list[Example]):
    for each in examples:
        room_id = each.room.key.room_id
        assert found.get(room_id) == expected.get(room_id), str(each)
