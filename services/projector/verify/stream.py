"""The stream, partition by partition, against the event store.

Invariant: a message is compared with an event that was committed before it was published, so the store, asked
afterwards, must have it. What retention has taken off the stream is missed by nobody.
"""

import asyncio
from collections.abc import AsyncGenerator, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

from services.projector.consumer import Consumer, Inbox
from services.projector.projections.base import Recorded
from services.projector.verify.report import CannotLookError, Report
from services.projector.verify.rooms import Seen
from shared.contracts.ids import RoomKey
from shared.contracts.subjects import PARTITIONS, STREAM, partition_of, room_of, room_subject, stream_seq_of
from shared.messaging.broker import Broker, BrokerUnavailableError, JetStreamError
from shared.messaging.direct_get import StoredMessage
from shared.messaging.look_back import last_events_up_to
from shared.messaging.stream import StreamState, stream_state
from shared.postgres import Connection, load_queries

_SQL = load_queries(Path(__file__).parent / "sql")

_SUBJECTS = 100
_CHUNK_MESSAGES = 400
_TRIES = 5
_SILENCE_SECONDS = 10.0
_CLOCKS_APART = timedelta(seconds=5)
_NANOSECONDS = 1_000_000_000
_WHERE = "stream"


class Message(NamedTuple):
    key: RoomKey | None
    recorded: Recorded


class StreamCheck:
    """Compares on a store connection of its own. Every method raises ``CannotLookError`` or one of ``STORE_ERRORS``."""

    def __init__(self, broker: Broker, store: Connection, report: Report) -> None:
        self._broker = broker
        self._store = store
        self._report = report
        self._arrived = asyncio.Event()
        self._inbox = Inbox(broker, self._arrived.set)

    async def state(self) -> StreamState:
        try:
            state = await stream_state(self._broker)
        except (BrokerUnavailableError, JetStreamError) as error:
            raise CannotLookError(f"the stream does not answer: {error}") from error
        if state is None:
            raise CannotLookError("there is no stream")
        return state

    async def tails(self, rooms: dict[RoomKey, Seen]) -> None:
        """That the stream has come as far as the store says it was published, room by room."""
        state = await self.state()
        published = [(key, seen.published_seq) for key, seen in rooms.items() if seen.published_seq]
        missing: list[tuple[RoomKey, int]] = []
        for start in range(0, len(published), _SUBJECTS):
            chunk = published[start : start + _SUBJECTS]
            subjects = [room_subject(*key) for key, _ in chunk]
            try:
                last = await last_events_up_to(self._broker, subjects, _seq_of, state.last_seq)
            except (BrokerUnavailableError, JetStreamError) as error:
                raise CannotLookError(f"the stream does not answer: {error}") from error
            behind = [(key, seq) for key, seq in chunk if last.found.get(room_subject(*key), 0) < seq]
            if any(room_subject(*key) in last.unsure for key, _ in behind):
                raise CannotLookError("too much stands at the end of a room that is no event")
            missing += behind
        await self._missed(missing)

    async def partition(self, number: int, upto: StreamState) -> None:
        """Everything of one partition up to the position ``upto`` was at: each event once, in order, as stored."""
        heads: dict[RoomKey, int] = {}
        cut: list[tuple[RoomKey, int]] = []
        chunk: list[Message] = []
        async for subject, recorded in self._messages(number, upto):
            chunk.append(Message(_key_of(subject, number), recorded))
            if len(chunk) >= _CHUNK_MESSAGES:
                await self._compare(chunk, heads, cut)
                chunk = []
        await self._compare(chunk, heads, cut)
        await self._missed(cut)

    async def _compare(
        self, chunk: Sequence[Message], heads: dict[RoomKey, int], cut: list[tuple[RoomKey, int]]
    ) -> None:
        self._report.messages += len(chunk)
        stored = await self._stored((m.key, m.recorded.stream_seq) for m in chunk if m.key is not None)
        for key, (seq, position, envelope, _) in chunk:
            if key is None or seq == 0:
                self._report.differs(key or RoomKey("?", "?"), _WHERE, f"the message at {position} is no event")
                continue
            head = heads.get(key)
            if head is None and seq > 1:
                cut.append((key, seq - 1))
            elif head is not None and seq <= head:
                self._report.differs(key, _WHERE, f"event {seq} at {position} comes after event {head}")
            elif head is not None and seq > head + 1:
                self._report.differs(key, _WHERE, f"event {seq} at {position} follows on event {head}")
            heads[key] = max(seq, head or 0)
            if (bytes_stored := stored.get((key, seq))) is None:
                self._report.differs(key, _WHERE, f"event {seq} at {position} is not in the store")
            elif bytes_stored != envelope:
                self._report.differs(key, _WHERE, f"event {seq} at {position} has other bytes than the one stored")

    async def _stored(self, places: Iterable[tuple[RoomKey, int]]) -> dict[tuple[RoomKey, int], bytes]:
        wanted = list(set(places))
        rows = await self._store.fetch(
            _SQL["events_at"],
            [key.workspace_id for key, _ in wanted],
            [key.room_id for key, _ in wanted],
            [seq for _, seq in wanted],
        )
        return {(RoomKey(row["workspace_id"], row["room_id"]), row["stream_seq"]): row["envelope"] for row in rows}

    async def _missed(self, places: Sequence[tuple[RoomKey, int]]) -> None:
        """Reports those of the events, which the stream does not hold, that are too young to have been taken off it."""
        if not places:
            return
        since = await self._retained_since()
        rows = await self._store.fetch(
            _SQL["stored_since"],
            [key.workspace_id for key, _ in places],
            [key.room_id for key, _ in places],
            [seq for _, seq in places],
            since,
        )
        for row in rows:
            self._report.differs(
                RoomKey(row["workspace_id"], row["room_id"]), _WHERE, f"event {row['stream_seq']} is missing"
            )

    async def _retained_since(self) -> datetime:
        """What was recorded later is still on the stream, if it was ever published."""
        try:
            info = await self._broker.jetstream(f"STREAM.INFO.{STREAM}")
        except (BrokerUnavailableError, JetStreamError) as error:
            raise CannotLookError(f"the stream does not answer: {error}") from error
        state: dict[str, Any] = info["state"]
        if int(state["first_seq"]) > 1:
            return _time(state["first_ts"]) + _CLOCKS_APART if int(state["messages"]) else datetime.now(UTC)
        # Nothing has been taken off yet. A stream made anew is filled with what is within its retention.
        age = int(info["config"].get("max_age", 0)) / _NANOSECONDS
        return (
            _time(info["created"]) - timedelta(seconds=age) + _CLOCKS_APART if age else datetime.min.replace(tzinfo=UTC)
        )

    async def _messages(self, number: int, upto: StreamState) -> AsyncGenerator[tuple[str, Recorded], None]:
        position = 0
        for _ in range(_TRIES):
            if (await self.state()).identity != upto.identity:
                raise CannotLookError("the stream was recreated or rewound while it was read")
            try:
                consumer = await self._inbox.open("verify", number, position + 1, upto.identity.key)
                async for message in self._consume(consumer):
                    if message[1].position > upto.last_seq:
                        consumer.fault = "read"
                        break
                    position = message[1].position
                    yield message
                await self._inbox.close_useless()
            except (BrokerUnavailableError, JetStreamError) as error:
                raise CannotLookError(f"the stream does not answer: {error}") from error
            if consumer.fault == "read":
                return
        raise CannotLookError("the stream cannot be read to its end")

    async def _consume(self, consumer: Consumer) -> AsyncGenerator[tuple[str, Recorded], None]:
        """What the consumer brings until there is no more for now, or it has a fault."""
        left = consumer.pending
        while consumer.fault is None:
            self._arrived.clear()
            while consumer.buffer:
                left -= 1
                yield consumer.buffer.popleft()
            if left <= 0:
                consumer.fault = "read"
            elif not consumer.wants_more or not await self._inbox.pull(consumer):
                try:
                    async with asyncio.timeout(_SILENCE_SECONDS):
                        await self._arrived.wait()
                except TimeoutError:
                    consumer.fault = "silence"


def _seq_of(message: StoredMessage) -> int | None:
    """Of an event; None where it is none."""
    return stream_seq_of(message.headers) or None


def _key_of(subject: str, partition: int) -> RoomKey | None:
    key = room_of(subject)
    return key if key is not None and partition_of(*key) == partition else None


def _time(text: str) -> datetime:
    """A time of the broker's, in whole seconds."""
    return datetime.fromisoformat(text[:19]).replace(tzinfo=UTC)


ALL_PARTITIONS = range(PARTITIONS)
