"""The accounts after a fault: store, stream, projections and readers against what was promised.

Invariant checked: every acknowledged command is one event; every stream_seq is gapless; the stream equals the store;
the projections equal a fresh fold of the store, row for row; every reader saw each event once, in order.
"""

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import asyncpg

from services.projector.projections.runs import RunChange, evolve, step_row
from shared.contracts.events import StepCreated
from shared.contracts.subjects import HEADER_EVENT_ID, HEADER_STREAM_SEQ, STREAM_SUBJECTS
from shared.contracts.times import format_time
from shared.contracts.upcasting import registry
from shared.messaging.broker import BrokerUnavailableError
from shared.messaging.direct_get import next_by_subject
from shared.messaging.stream import stream_state
from tests.fault.load import Load
from tests.fault.plant import Plant
from tests.fault.readers import Reader

SETTLE_SECONDS = 60.0


@dataclass
class Accounts:
    """What was found. ``lost``, ``repeated`` and ``reordered`` count events over store, stream, feed and readers."""

    acknowledged: int = 0
    events: int = 0
    shown: int = 0
    lost: int = 0
    repeated: int = 0
    reordered: int = 0
    wrong_rows: int = 0
    resets: int = 0
    notes: list[str] = field(default_factory=list)

    @property
    def balanced(self) -> bool:
        return not (self.lost or self.repeated or self.reordered or self.wrong_rows or self.resets)

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    def compare(self, where: str, expected: Sequence[Any], found: Sequence[Any]) -> None:
        """Adds the differences between two sequences of the same events."""
        if list(expected) == list(found):
            return
        lost, extra = set(expected) - set(found), len(found) - len(set(found))
        self.lost += len(lost)
        self.repeated += extra + len(set(found) - set(expected))
        if not lost and not extra:
            self.reordered += 1
        self.notes.append(f"{where}: {len(expected)} expected, {len(found)} found, {len(lost)} lost, {extra} repeated")


async def settle(plant: Plant, load: Load, readers: Sequence[Reader]) -> float:
    """Waits until everything acknowledged has arrived everywhere. Seconds it took; raises ``TimeoutError``."""
    heads: dict[str, int] = defaultdict(int)
    for acknowledged in load.acknowledged:
        heads[acknowledged.room_id] = max(heads[acknowledged.room_id], acknowledged.stream_seq)
    started = asyncio.get_running_loop().time()
    async with asyncio.timeout(SETTLE_SECONDS):
        while any(reader.last_seq < heads[reader.room_id] for reader in readers):
            await asyncio.sleep(0.05)
        while not await _projected(plant, load.workspace_id, heads):
            await asyncio.sleep(0.05)
        while not await _streamed(plant):
            await asyncio.sleep(0.05)
    return asyncio.get_running_loop().time() - started


async def balance(plant: Plant, load: Load, readers: Sequence[Reader]) -> Accounts:
    accounts = Accounts(acknowledged=len(load.acknowledged))
    store = await _read_store(plant)
    accounts.events = sum(len(events) for events in store.values())
    _check_store(accounts, load, store)
    await _check_stream(accounts, plant, store)
    await _check_feed(accounts, plant, store)
    await _check_rows(accounts, plant, store)
    for number, reader in enumerate(readers):
        expected = [(seq, envelope.decode()) for seq, _, envelope in store.get((load.workspace_id, reader.room_id), [])]
        accounts.compare(f"reader {number} of {reader.room_id}", expected, reader.seen)
        accounts.resets += reader.resets
        accounts.shown += len(reader.seen)
    return accounts


RoomEvents = dict[tuple[str, str], list[tuple[int, str, bytes]]]


async def _read_store(plant: Plant) -> RoomEvents:
    rows = await _fetch(
        plant.postgres.dsn("event_store"),
        "select workspace_id, room_id, stream_seq, event_id::text as event_id, envelope from events order by 1, 2, 3",
    )
    store: RoomEvents = defaultdict(list)
    for row in rows:
        store[row["workspace_id"], row["room_id"]].append((row["stream_seq"], row["event_id"], row["envelope"]))
    return store


def _check_store(accounts: Accounts, load: Load, store: RoomEvents) -> None:
    promised: dict[str, list[tuple[int, str]]] = defaultdict(list)
    for acknowledged in load.acknowledged:
        promised[acknowledged.room_id].append((acknowledged.stream_seq, acknowledged.event_id))
    for (_, room_id), events in store.items():
        accounts.compare(
            f"store {room_id}", sorted(promised[room_id]), [(seq, event_id) for seq, event_id, _ in events]
        )
        if [seq for seq, _, _ in events] != list(range(1, len(events) + 1)):
            accounts.notes.append(f"store {room_id}: stream_seq has gaps")
            accounts.lost += 1
    for room_id in promised.keys() - {room_id for _, room_id in store}:
        accounts.compare(f"store {room_id}", promised[room_id], [])


async def _check_stream(accounts: Accounts, plant: Plant, store: RoomEvents) -> None:
    found: RoomEvents = defaultdict(list)
    async with plant.brokers.connected() as broker:
        position = 0
        while messages := await next_by_subject(broker, STREAM_SUBJECTS, position + 1, 1000, seconds=10.0):
            for message in messages:
                _, _, workspace_id, room_id = message.subject.split(".")
                event = (int(message.headers[HEADER_STREAM_SEQ]), message.headers[HEADER_EVENT_ID], message.data)
                found[workspace_id, room_id].append(event)
            position = messages[-1].position
    for room in store.keys() | found.keys():
        accounts.compare(f"stream {room}", store.get(room, []), found.get(room, []))


async def _check_feed(accounts: Accounts, plant: Plant, store: RoomEvents) -> None:
    rows = await _fetch(
        plant.postgres.dsn("projections"),
        "select workspace_id, room_id, stream_seq, envelope from proj_room_events order by 1, 2, 3",
    )
    found: dict[tuple[str, str], list[tuple[int, bytes]]] = defaultdict(list)
    for row in rows:
        found[row["workspace_id"], row["room_id"]].append((row["stream_seq"], row["envelope"]))
    for room in store.keys() | found.keys():
        expected = [(seq, envelope) for seq, _, envelope in store.get(room, [])]
        accounts.compare(f"feed {room}", expected, found.get(room, []))


async def _check_rows(accounts: Accounts, plant: Plant, store: RoomEvents) -> None:
    """Runs and steps against a fresh fold."""
    runs: dict[str, RunChange] = {}
    steps: dict[str, tuple[Any, ...]] = {}
    for events in store.values():
        for _, _, envelope in events:
            event = registry.decode(envelope)
            runs[event.run_id] = evolve(runs.get(event.run_id), event)
            if isinstance(event, StepCreated):
                row = step_row(event)
                steps[row.step_id] = (row.run_id, row.kind, row.created_at, row.last_event_id, row.stream_seq)
    dsn = plant.postgres.dsn("projections")
    found_runs = {
        row["run_id"]: (
            row["status"],
            row["summary"],
            row["output"],
            row["error"],
            *(_time(row[name]) for name in ("created_at", "started_at", "ended_at", "updated_at")),
            str(row["last_event_id"]),
            row["stream_seq"],
        )
        for row in await _fetch(dsn, "select * from proj_runs")
    }
    expected_runs = {
        run.run_id: (
            run.status,
            run.summary,
            run.output or "{}",
            run.error or "{}",
            run.origin.created_at if run.origin else None,
            run.started_at,
            run.ended_at,
            run.updated_at,
            run.last_event_id,
            run.stream_seq,
        )
        for run in runs.values()
    }
    found_steps = {
        row["step_id"]: (
            row["run_id"],
            row["kind"],
            _time(row["created_at"]),
            str(row["last_event_id"]),
            row["stream_seq"],
        )
        for row in await _fetch(dsn, "select * from proj_steps")
    }
    for name, expected, found in (("runs", expected_runs, found_runs), ("steps", steps, found_steps)):
        wrong = [key for key in expected.keys() | found.keys() if expected.get(key) != found.get(key)]
        accounts.wrong_rows += len(wrong)
        accounts.notes += [f"{name} {key}: {expected.get(key)} != {found.get(key)}" for key in wrong[:3]]


async def _projected(plant: Plant, workspace_id: str, heads: dict[str, int]) -> bool:
    rows = await _fetch(
        plant.postgres.dsn("projections"),
        "select room_id, min(applied_seq) as seq, count(*) as n from proj_applied where workspace_id = $1 group by 1",
        workspace_id,
    )
    applied = {row["room_id"]: row["seq"] for row in rows if row["n"] == 2}
    return all(applied.get(room_id, 0) >= head for room_id, head in heads.items())


async def _streamed(plant: Plant) -> bool:
    rows = await _fetch(plant.postgres.dsn("event_store"), "select count(*) as n from events")
    async with plant.brokers.connected() as broker:
        try:
            state = await stream_state(broker)
        except BrokerUnavailableError:
            return False
    return state is not None and state.last_seq >= rows[0]["n"]


async def _fetch(dsn: str, query: str, *arguments: Any) -> list[asyncpg.Record]:
    connection = await asyncpg.connect(dsn)
    try:
        return await connection.fetch(query, *arguments)
    finally:
        await connection.close()


def _time(moment: Any) -> str | None:
    return format_time(moment) if moment is not None else None
