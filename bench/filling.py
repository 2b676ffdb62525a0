"""A past for scenarios that start with one: whole runs, decided by the domain, in the event store and on the stream.

It is what the command service would have left: the same events in the same rows, put on the stream by the relay's own
publisher. It only gets there faster.
"""

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import asyncpg
from msgspec import Raw

from bench.stack import Stack
from services.command.domain.batch import Loaded, NewEvent, Request, plan
from services.command.domain.commands import Command, CompleteRun, CreateRun, CreateStep, StartRun
from services.command.domain.decide import Caller
from services.command.domain.run import RunState
from services.command.ids import MintedIds
from services.command.relay.outbox import UnpublishedEvent
from services.command.relay.publisher import MOST_EVENTS, publish
from shared.contracts.events import event_type_of
from shared.contracts.ids import RoomKey
from shared.contracts.times import format_time
from shared.messaging.broker import Broker
from shared.messaging.stream import StreamSettings, ensure_stream

STEPS = 5
EVENTS_A_RUN = STEPS + 3
_ROOMS = 1000
_CALLER = Caller("bench", "service", "bench")
_TAGS = ("ops", "bench")
_CONNECT_SECONDS = 10.0


class Past(NamedTuple):
    """``heads``: the last stream_seq of each room."""

    runs: int
    heads: dict[RoomKey, int]

    @property
    def events(self) -> int:
        return EVENTS_A_RUN * self.runs

    @property
    def steps(self) -> int:
        return STEPS * self.runs

    @property
    def tags(self) -> int:
        return len(_TAGS) * self.runs


async def fill(stack: Stack, runs: int) -> Past:
    """Completed runs, spread over a thousand rooms; those of a room follow one another."""
    past = Past(runs, {})
    broker = Broker(stack.nats.url, name="bench")
    broker.start()
    connection = await asyncpg.connect(stack.store_dsn)
    try:
        async with asyncio.timeout(_CONNECT_SECONDS):
            await broker.wait_connected()
        stream = await ensure_stream(broker, StreamSettings())
        position = stream.last_seq
        for events, states in _decide(past):
            await asyncio.gather(_store(connection, events, states), _publish(broker, events, position))
            position += len(events)
        await connection.executemany(
            "insert into rooms (workspace_id, room_id, last_seq, published_seq) values ($1, $2, $3, $3)",
            [(*room, head) for room, head in past.heads.items()],
        )
        await connection.execute(
            "update relay set stream_created = $1, stream_epoch = $2, stream_position = $3",
            stream.identity.created,
            stream.identity.epoch,
            position,
        )
        await connection.execute("vacuum analyze")
    finally:
        await connection.close()
        await broker.close()
    assert await stack.stored() == past.events
    await stack.streamed(past.events)
    return past


def _decide(past: Past) -> Iterator[tuple[list[NewEvent], list[RunState]]]:
    """A run in each room at a time: the events of all, and how they leave the runs."""
    ids = MintedIds()
    for first in range(0, past.runs, _ROOMS):
        now = datetime.now(UTC)
        loaded = Loaded(past.heads, {}, {})
        events: list[NewEvent] = []

        def take(commands: list[Command], now: datetime = now, loaded: Loaded = loaded) -> list[NewEvent]:
            requests = (Request(_CALLER, command, format_time(now)) for command in commands)
            return plan(requests, loaded, now, ids, timedelta()).events

        numbers = range(first, min(first + _ROOMS, past.runs))
        events += take([_create(number) for number in numbers])
        run_ids = [new.event.run_id for new in events]
        events += take([StartRun(run_id=run_id) for run_id in run_ids])
        for _ in range(STEPS):
            events += take([_step(run_id) for run_id in run_ids])
        events += take([CompleteRun(run_id=run_id, summary="June", output=Raw(b'{"days":3}')) for run_id in run_ids])
        assert len(events) == EVENTS_A_RUN * len(numbers)
        yield events, list(loaded.runs.values())


def _create(number: int) -> CreateRun:
    return CreateRun(
        room_id=f"room_{number % _ROOMS}",
        title="Plan the offsite",
        goal="Everybody in one place for two days",
        input=Raw(b'{"people":12,"month":"June"}'),
        tags=_TAGS,
    )


def _step(run_id: str) -> CreateStep:
    return CreateStep(run_id=run_id, kind="tool", title="Find a date", input=Raw(b'{"month":"June"}'))


async def _store(connection: asyncpg.Connection, events: list[NewEvent], states: list[RunState]) -> None:
    now = datetime.now(UTC)
    await connection.copy_records_to_table(
        "events",
        columns=(
            "workspace_id", "room_id", "stream_seq", "event_id", "run_id", "event_type", "event_version",
            "recorded_at", "envelope",
        ),
        records=[
            (
                event.workspace_id, event.room_id, event.stream_seq, event.event_id, event.run_id,
                event_type_of(event), event.event_version, now, envelope,
            )
            for event, envelope, _ in events
        ],
    )  # fmt: skip
    await connection.copy_records_to_table(
        "runs",
        columns=(
            "run_id", "workspace_id", "room_id", "thread_id", "status", "version", "last_event_id", "correlation_id",
        ),
        records=[
            (
                run.run_id, run.workspace_id, run.room_id, run.thread_id, run.status, run.version,
                run.last_event_id, run.correlation_id,
            )
            for run in states
        ],
    )  # fmt: skip


async def _publish(broker: Broker, events: list[NewEvent], position: int) -> None:
    for start in range(0, len(events), MOST_EVENTS):
        batch = [
            UnpublishedEvent(
                RoomKey(event.workspace_id, event.room_id),
                event.stream_seq,
                event.event_id,
                event_type_of(event),
                None,
                envelope,
            )
            for event, envelope, _ in events[start : start + MOST_EVENTS]
        ]
        position = await publish(broker, batch, position)
