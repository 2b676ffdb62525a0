"""What the other services would have done: events on the stream, and rows in the projections."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncGenerator, Iterable
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import msgspec
from nats.aio.client import Client

from shared.contracts.events import StepCreated, StepCreatedData, encode_event
from shared.contracts.filled import TELLER_BYTES, Told, telling
from shared.contracts.subjects import (
    HEADER_EVENT_ID,
    HEADER_EVENT_TYPE,
    HEADER_STREAM_SEQ,
    RELAY_FILLED_SUBJECT,
    STREAM,
    partition_of,
    progress_subject,
    room_subject,
)
from shared.messaging.broker import BROKER_ERRORS, Broker, BrokerUnavailableError, JetStreamError
from shared.messaging.stream import StreamSettings, ensure_stream, mark_filled, stream_state
from shared.tasks import end_tasks

from .service import WORKSPACE

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)


def fresh(kind: str) -> str:
    return f"{kind}_{uuid.uuid4().hex[:12]}"


def event(room_id: str, stream_seq: int, *, workspace_id: str = WORKSPACE, size: int = 0) -> StepCreated:
    """An event of a room; any type does, nobody on the way to a viewer looks inside."""
    return StepCreated(
        event_id=str(uuid.uuid5(uuid.NAMESPACE_OID, f"{workspace_id} {room_id} {stream_seq}")),
        occurred_at="2026-01-31T12:00:00.000000Z",
        recorded_at="2026-01-31T12:00:00.000000Z",
        workspace_id=workspace_id,
        room_id=room_id,
        thread_id=None,
        run_id="run_01",
        step_id="step_01",
        actor_type="service",
        actor_id="test",
        stream_id=room_id,
        stream_seq=stream_seq,
        correlation_id="c",
        causation_id=None,
        data=StepCreatedData(step_id="step_01", kind="tool", title="x" * size),
    )


def events(room_id: str, first: int, last: int, *, size: int = 0) -> list[StepCreated]:
    return [event(room_id, seq, size=size) for seq in range(first, last + 1)]


def headers(said: StepCreated) -> dict[str, str]:
    return {
        HEADER_EVENT_ID: said.event_id,
        HEADER_EVENT_TYPE: "step.created",
        HEADER_STREAM_SEQ: str(said.stream_seq),
    }


class Stream:
    """Publishes as the relay does, one by one."""

    def __init__(self, url: str) -> None:
        self._broker = Broker(url, name="world")
        self._telling: asyncio.Task[None] | None = None

    @property
    def client(self) -> Client:
        return self._broker.client

    async def reconnected(self) -> None:
        """Waits until the server answers again; a connection that died a moment ago may not know that yet."""
        async with asyncio.timeout(20):
            while True:
                with suppress(*BROKER_ERRORS, BrokerUnavailableError):
                    await self.client.flush(1)
                    return
                await asyncio.sleep(0.02)

    async def start(self) -> None:
        self._broker.start()
        while not self._broker.is_connected:
            await asyncio.sleep(0.02)
        self._telling = asyncio.create_task(self._tell())

    async def close(self) -> None:
        if self._telling is not None:
            await end_tasks(self._telling)
        await self._broker.close()

    async def _tell(self) -> None:
        """That the stream is filled, when it is: more often than the relay does."""
        while True:
            with suppress(*BROKER_ERRORS, BrokerUnavailableError, JetStreamError):
                state = await stream_state(self._broker)
                if state is not None and state.is_filled:
                    told = Told(state.identity.key, "0" * 2 * TELLER_BYTES)
                    await self.client.publish(RELAY_FILLED_SUBJECT, telling(told))
            await asyncio.sleep(0.05)

    async def ensure(self, *, filled: bool = True) -> None:
        """The stream as the relay makes it, or leaves it, but that it also stores ``quiet.…`` as ``rooms.…``."""
        state = await ensure_stream(self._broker, StreamSettings())
        if filled:
            await mark_filled(self._broker, state.identity)
        config: dict[str, Any] = (await self._broker.jetstream(f"STREAM.INFO.{STREAM}"))["config"]
        config["subjects"] = [*config["subjects"], "quiet.>"]
        config["subject_transform"] = {"src": "quiet.>", "dest": "rooms.>"}
        await self._broker.jetstream(f"STREAM.UPDATE.{STREAM}", config)

    async def publish(self, said: Iterable[StepCreated], *, quietly: bool = False, again: bool = False) -> None:
        """Stored and live. ``quietly``: stored, but the live message is lost on everybody. ``again``: stored another
        time, beyond the broker's memory of what it has."""
        for one in said:
            subject = room_subject(one.workspace_id, one.room_id)
            if quietly:
                subject = subject.replace("rooms.", "quiet.", 1)
            carried = headers(one) | ({HEADER_EVENT_ID: uuid.uuid4().hex} if again else {})
            answer = await self.client.request(subject, encode_event(one), timeout=5, headers=carried)
            assert "error" not in msgspec.json.decode(answer.data), answer.data

    async def whisper(self, said: StepCreated) -> None:
        """Live to the service's subscription alone: the stream's own answer is not waited for, and may be refused."""
        subject = room_subject(said.workspace_id, said.room_id)
        await self.client.publish(subject, encode_event(said), headers=headers(said))

    async def announce(self, room_id: str, stream_seq: int, projection: str = "runs") -> None:
        payload = msgspec.json.encode({"projection": projection, "stream_seq": stream_seq})
        await self.client.publish(progress_subject(WORKSPACE, room_id), payload)
        await self.client.flush()


class Projections:
    """Writes what a projector would."""

    def __init__(self, connection: asyncpg.Connection[Any]) -> None:
        self.connection = connection

    async def apply_feed(self, said: list[StepCreated], position: int = 0) -> None:
        """Rows of ``proj_room_events``; ``position`` is where the stream holds the first of them."""
        rows = [
            (one.workspace_id, one.room_id, one.stream_seq, position + index, encode_event(one))
            for index, one in enumerate(said)
        ]
        async with self.connection.transaction():
            await self.connection.executemany("insert into proj_room_events values ($1, $2, $3, $4, $5)", rows)
            last = said[-1]
            await self._applied("room_feed", last.workspace_id, last.room_id, last.stream_seq)

    async def apply_run(self, run: dict[str, Any]) -> None:
        """A row of ``proj_runs``, with its room's position."""
        row = run_row(**run)
        async with self.connection.transaction():
            names = ", ".join(row)
            places = ", ".join(f"${number}" for number in range(1, len(row) + 1))
            await self.connection.execute(f"insert into proj_runs ({names}) values ({places})", *row.values())
            await self._applied("runs", row["workspace_id"], row["room_id"], row["stream_seq"])

    async def apply_position(self, room_id: str, stream_seq: int) -> None:
        await self._applied("runs", WORKSPACE, room_id, stream_seq)

    async def _applied(self, projection: str, workspace_id: str, room_id: str, stream_seq: int) -> None:
        await self.connection.execute(
            """
            insert into proj_rooms (projection, workspace_id, room_id, partition, applied_seq)
            values ($1, $2, $3, $4, $5)
            on conflict (projection, workspace_id, room_id)
            do update set applied_seq = greatest(proj_rooms.applied_seq, excluded.applied_seq)
            """,
            projection,
            workspace_id,
            room_id,
            partition_of(workspace_id, room_id),
            stream_seq,
        )


def run_row(**given: Any) -> dict[str, Any]:
    """A complete row, with what is given in it. ``minute`` sets the time of creation."""
    created_at = NOON + timedelta(minutes=given.pop("minute", 0))
    return {
        "run_id": fresh("run"),
        "workspace_id": WORKSPACE,
        "room_id": "room",
        "thread_id": None,
        "status": "queued",
        "title": None,
        "goal": None,
        "input": "{}",
        "output": "{}",
        "error": "{}",
        "summary": None,
        "tags": [],
        "created_at": created_at,
        "started_at": None,
        "ended_at": None,
        "updated_at": created_at,
        "correlation_id": "c",
        "last_event_id": uuid.uuid4(),
        "stream_seq": 1,
        **given,
    }


@asynccontextmanager
async def projections(dsn: str) -> AsyncGenerator[Projections, None]:
    connection = await asyncpg.connect(dsn)
    try:
        yield Projections(connection)
    finally:
        await connection.close()


@asynccontextmanager
async def stream(url: str) -> AsyncGenerator[Stream, None]:
    world = Stream(url)
    await world.start()
    try:
        yield world
    finally:
        await world.close()
