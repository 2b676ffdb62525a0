"""Histories of rooms, stored and published exactly as the command service and its relay do it."""

from __future__ import annotations

import asyncio
import itertools
import json
import uuid
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import asyncpg
import nats
from msgspec import UNSET
from nats.aio.client import Client
from nats.aio.msg import Msg

from shared.contracts.events import (
    Event,
    RunCompleted,
    RunCompletedData,
    RunCreated,
    RunCreatedData,
    RunFailed,
    RunFailedData,
    RunStarted,
    RunStartedData,
    StepCreated,
    StepCreatedData,
    encode_event,
    event_type_of,
)
from shared.contracts.ids import RoomKey
from shared.contracts.subjects import HEADER_EVENT_ID, HEADER_EVENT_TYPE, HEADER_STREAM_SEQ, STREAM, room_subject
from shared.contracts.times import format_time

BATCH = 1000
_EPOCH = datetime(2026, 1, 31, 12, 0, tzinfo=UTC)
_numbers = itertools.count(1)


class Stored(NamedTuple):
    key: RoomKey
    seq: int
    event_id: str
    run_id: str
    event_type: str
    envelope: bytes


class RoomHistory:
    """Writes one room's events in order, with ids and times of its own."""

    def __init__(self, room_id: str, workspace_id: str = "ws") -> None:
        self.key = RoomKey(workspace_id, room_id)
        self.events: list[Stored] = []
        self._last_of_run: dict[str, str] = {}

    @property
    def head(self) -> int:
        return len(self.events)

    def run(self, steps: int = 2, end: str | None = "completed") -> list[Stored]:
        """A whole run: created, started, some steps, and how it ended."""
        run_id = f"run_{next(_numbers):026d}"
        events = [self.created(run_id), self.started(run_id)]
        events += [self.step(run_id) for _ in range(steps)]
        if end == "completed":
            events.append(self.completed(run_id))
        elif end == "failed":
            events.append(self.failed(run_id))
        return events

    def created(self, run_id: str, **data: Any) -> Stored:
        given: dict[str, Any] = {
            "title": f"Run {run_id}",
            "goal": "to be seen",
            "input": {"n": 1, "text": "ü"},
            "tags": ('a"b', "c\\,d"),
        }
        return self._add(RunCreated(**self._head(run_id), data=RunCreatedData(run_id=run_id, **(given | data))))

    def started(self, run_id: str) -> Stored:
        return self._add(RunStarted(**self._head(run_id), data=RunStartedData(run_id=run_id)))

    def step(self, run_id: str, title: str | None = "look", step_id: str = "") -> Stored:
        step_id = step_id or f"step_{next(_numbers):026d}"
        given = UNSET if title is None else title
        data = StepCreatedData(step_id=step_id, kind="tool", title=given, input={"q": [1, 2, None]})
        return self._add(StepCreated(**self._head(run_id), step_id=step_id, data=data))

    def completed(self, run_id: str, **data: Any) -> Stored:
        given: dict[str, Any] = {"summary": "done", "output": {"answer": 42}}
        return self._add(RunCompleted(**self._head(run_id), data=RunCompletedData(run_id=run_id, **(given | data))))

    def failed(self, run_id: str, **data: Any) -> Stored:
        given: dict[str, Any] = {"message": "no luck"}
        return self._add(RunFailed(**self._head(run_id), data=RunFailedData(run_id=run_id, **(given | data))))

    def garbage(self, envelope: bytes) -> Stored:
        """An event that no projector can read."""
        stored = Stored(self.key, self.head + 1, str(uuid.uuid4()), "run_x", "run.created", envelope)
        self.events.append(stored)
        return stored

    def _head(self, run_id: str) -> dict[str, Any]:
        number = next(_numbers)
        at = format_time(_EPOCH + timedelta(milliseconds=number))
        return {
            "event_id": str(uuid.UUID(int=number << 64 | 7)),
            "occurred_at": at,
            "recorded_at": at,
            "workspace_id": self.key.workspace_id,
            "room_id": self.key.room_id,
            "thread_id": "thread",
            "run_id": run_id,
            "actor_type": "agent",
            "actor_id": "test",
            "stream_id": self.key.room_id,
            "stream_seq": self.head + 1,
            "correlation_id": f"corr-{run_id}",
            "causation_id": self._last_of_run.get(run_id),
        }

    def _add(self, event: Event) -> Stored:
        self._last_of_run[event.run_id] = event.event_id
        stored = Stored(
            self.key, event.stream_seq, event.event_id, event.run_id, event_type_of(event), encode_event(event)
        )
        self.events.append(stored)
        return stored


_RUN_STATES = """
    insert into runs (run_id, workspace_id, room_id, status, version, last_event_id, correlation_id)
    select
        run_id, min(workspace_id), min(room_id),
        case max(stream_seq) filter (where event_type <> 'step.created')
            when max(stream_seq) filter (where event_type = 'run.completed') then 'succeeded'
            when max(stream_seq) filter (where event_type = 'run.failed') then 'failed'
            when max(stream_seq) filter (where event_type = 'run.started') then 'running'
            else 'queued'
        end,
        count(*), (array_agg(event_id order by stream_seq desc))[1], 'c'
    from events
    where run_id = any($1) and (workspace_id, room_id) in (select * from unnest($2::text[], $3::text[]))
    group by run_id
    on conflict (run_id) do update set
        status = excluded.status, version = excluded.version, last_event_id = excluded.last_event_id"""


async def store(dsn: str, events: Iterable[Stored], *, states: bool = True) -> None:
    """Commits events to the event store, published; ``states``: and the state of their runs."""
    connection = await asyncpg.connect(dsn)
    try:
        now = datetime.now(UTC)
        heads: dict[RoomKey, int] = {}
        records: list[tuple[object, ...]] = []
        for e in events:
            heads[e.key] = max(heads.get(e.key, 0), e.seq)
            records.append((*e.key, e.seq, uuid.UUID(e.event_id), e.run_id, e.event_type, 1, now, None, e.envelope))
        async with connection.transaction():
            await connection.executemany(
                """insert into rooms values ($1, $2, $3, $3) on conflict (workspace_id, room_id)
                do update set last_seq = greatest(rooms.last_seq, $3), published_seq = greatest(rooms.last_seq, $3)""",
                [(*key, head) for key, head in heads.items()],
            )
            await connection.copy_records_to_table("events", records=records)
            if states:
                runs = [record[4] for record in records]
                await connection.execute(_RUN_STATES, runs, *map(list, zip(*heads, strict=True)))
    finally:
        await connection.close()


async def publish(url: str, events: Sequence[Stored]) -> None:
    """Puts events on the stream in the order given, by atomic batches."""
    client = await nats.connect(url)
    try:
        for start in range(0, len(events), BATCH):
            await _publish_batch(client, events[start : start + BATCH])
    finally:
        await client.close()


async def _publish_batch(client: Client, events: Sequence[Stored]) -> None:
    answered: asyncio.Future[dict[str, object]] = asyncio.get_running_loop().create_future()

    async def receive(message: Msg) -> None:
        if message.data and not answered.done():
            answered.set_result(json.loads(message.data))

    inbox = client.new_inbox()
    subscription = await client.subscribe(inbox, cb=receive)
    batch_id = uuid.uuid4().hex
    for number, event in enumerate(events, 1):
        headers = message_headers(event) | {"Nats-Batch-Id": batch_id, "Nats-Batch-Sequence": str(number)}
        # The broker's duplicate window must not hide what a test repeats on purpose.
        del headers[HEADER_EVENT_ID]
        if number == len(events):
            headers["Nats-Batch-Commit"] = "1"
        reply = inbox if number in (1, len(events)) else ""
        await client.publish(room_subject(*event.key), event.envelope, reply=reply, headers=headers)
    answer = await asyncio.wait_for(answered, 10)
    await subscription.unsubscribe()
    assert "error" not in answer, answer


def message_headers(event: Stored) -> dict[str, str]:
    return {
        HEADER_EVENT_ID: event.event_id,
        HEADER_EVENT_TYPE: event.event_type,
        HEADER_STREAM_SEQ: str(event.seq),
    }


async def recreate_stream(url: str) -> None:
    """Deletes the stream and makes a new, empty one."""
    client = await nats.connect(url)
    try:
        await client.request(f"$JS.API.STREAM.DELETE.{STREAM}", b"", timeout=5)
    finally:
        await client.close()
