"""The relay's life: wait to lead, reconcile, publish what is committed, and again after anything unexpected.

Invariant: nothing is published on an assumption. After an error, a timeout, a reconnect or a surprise from the stream,
the relay reads where the stream stands before it goes on. What this process commits is published as it is offered, as
long as each event follows on what is published of its room; everything else is read from the event store.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Sequence
from typing import NamedTuple

import structlog

from services.command import metrics
from services.command.domain.batch import NewEvent
from services.command.relay import outbox
from services.command.relay.consumers import Consumers
from services.command.relay.filling import Filling
from services.command.relay.handover import Handover
from services.command.relay.heads import find_heads
from services.command.relay.leader import try_to_lead, while_leading
from services.command.relay.publisher import MOST_EVENTS, FencedOffError, publish
from services.command.relay.reconcile import reconcile
from services.command.relay.recount import AGAIN_SECONDS, Recount
from services.command.relay.source import Source, source_after
from services.command.relay.unrecorded import RECORD_SECONDS, Standing, Unrecorded
from services.command.relay.wake import MOST_BYTES, MOST_ROOMS, rooms_heard, rooms_told
from services.command.relay.withheld import Withheld
from shared import tracing
from shared.contracts.ids import RoomKey
from shared.contracts.subjects import RELAY_WAKE_SUBJECT
from shared.messaging.broker import BROKER_ERRORS, Broker, BrokerUnavailableError, JetStreamError
from shared.messaging.listening import Listening
from shared.messaging.stream import StreamSettings, ensure_stream
from shared.postgres import STORE_ERRORS, Connection, connect
from shared.tasks import end_tasks
from shared.telemetry import Logger

_MOST_BYTES = 4 * 1024 * 1024
_POLL_SECONDS = 0.5
"""How long an event waits at most when every wake-up was lost. Well below the leader's lease."""
_CHECK_SECONDS = 5.0
"""How often the relay asks whether the stream is still where it left it, and as it should be."""
_RETRY_SECONDS = 0.2
_STOP_SECONDS = 1.0

_REST_SECONDS = 0.05
"""At the most, after a look at the event store that found nothing but what is withheld: as long as that took."""

_BUSY_EVENTS = 16
_PAUSE_SECONDS = 0.005
"""After a batch that large, so that the next is larger still: each is one flush to the broker's disk."""


class RelaySettings(NamedTuple):
    dsn: str
    stream: StreamSettings


class Relay:
    """Publishes what is committed. ``run`` works until cancelled."""

    def __init__(self, settings: RelaySettings, broker: Broker) -> None:
        self._settings = settings
        self._broker = broker
        self._committed = asyncio.Event()
        self._handover = Handover()
        self._written: set[RoomKey] = set()
        """By this process while another leads, which is yet to be told."""
        self._listening = Listening(broker, RELAY_WAKE_SUBJECT, MOST_BYTES, self._on_wake)
        self._consumers = Consumers(broker)
        self._filling = Filling(broker)
        self._standing: Standing | None = None
        self._reached: Standing | None = None
        """What the stream has acknowledged last: with less than that it has been rewound."""
        self._store_is_well = True
        self._cause = "start"
        self._doubts = 0
        self._check_at = 0.0
        self._after = outbox.START
        self._withheld = Withheld()
        self._reconciled_at = 0
        """The position up to which there may be more on the stream than is remembered here."""
        self._was_refused = False
        self._left: set[RoomKey] = set()
        """Rooms that the stream was to be asked about, and was not for want of time."""
        self._unrecorded = Unrecorded()
        self._recount = Recount()
        self._read_at = 0.0
        """When next to read from the event store, at the latest (monotonic seconds)."""
        self._rest_until = 0.0
        self._source: Source = "offered"
        """Where the last step had its events from."""
        self._log: Logger = structlog.get_logger("relay")
        broker.on_connected(self._on_connected)

    def offer(self, events: Sequence[NewEvent]) -> None:
        """Takes in what this process has committed."""
        if self._handover.is_open:
            self._handover.offer(events)
        elif len(self._written) <= MOST_ROOMS:
            self._written.update(RoomKey(event.workspace_id, event.room_id) for event, *_ in events)
        self._committed.set()

    async def run(self) -> None:
        while True:
            try:
                # A leader that cannot reach the broker only keeps the others from leading.
                await self._broker.wait_connected()
                async with self._leadership() as connection:
                    await self._lead(connection)
            except STORE_ERRORS as error:
                if self._store_is_well:
                    self._log.warning("relay_store_failed", error=type(error).__name__)
                self._store_is_well = False
                await asyncio.sleep(_RETRY_SECONDS)

    def _store_answered(self) -> None:
        """Not what a connection is worth, but that something was done with it: it may be refused only then."""
        if not self._store_is_well:
            self._log.info("relay_store_available")
        self._store_is_well = True

    async def _on_connected(self) -> None:
        self._doubt("reconnect")

    def _doubt(self, cause: str) -> None:
        """From here on nothing counts until the stream was looked at."""
        self._standing, self._cause = None, cause
        self._doubts += 1
        self._handover.reset()
        self._left.clear()
        self._committed.set()

    @contextlib.asynccontextmanager
    async def _leadership(self) -> AsyncGenerator[Connection, None]:
        connection = await connect(self._settings.dsn, "runroom-command-relay", command_timeout=10.0)
        try:
            while not await try_to_lead(connection):
                self._store_answered()
                await self._follow()
            self._log.info("relay_leads")
            metrics.RELAY_LEADER.set(1)
            self._handover.is_open = True
            yield connection
        finally:
            self._handover.is_open = False
            metrics.RELAY_LEADER.set(0)
            connection.terminate()

    async def _follow(self) -> None:
        """While another instance leads: tell it when something was committed here, then see whether it still leads."""
        again = time.monotonic() + _POLL_SECONDS
        while (left := again - time.monotonic()) > 0:
            try:
                async with asyncio.timeout(left):
                    await self._committed.wait()
            except TimeoutError:
                return
            self._committed.clear()
            told = rooms_told(self._written) if len(self._written) <= MOST_ROOMS else b""
            self._written.clear()
            with contextlib.suppress(BrokerUnavailableError, *BROKER_ERRORS):
                await self._broker.client.publish(RELAY_WAKE_SUBJECT, told)
            await asyncio.sleep(0)

    async def _lead(self, connection: Connection) -> None:
        """Publishes until the broker is gone. Raises one of ``STORE_ERRORS`` when the leader's session is."""
        self._doubt("start")
        self._recount = Recount()
        tending = asyncio.create_task(self._consumers.run(), name="tend consumers")
        try:
            while self._broker.is_connected:
                await self._listening.go_on()
                self._committed.clear()
                if not await self._step(connection):
                    await self._wait_for_commit(self._pause)
        except BrokerUnavailableError as error:
            self._log.warning("relay_broker_unavailable", error=str(error))
        finally:
            with contextlib.suppress(*STORE_ERRORS):
                async with asyncio.timeout(_STOP_SECONDS):
                    await self._record(connection)
            await end_tasks(tending)
            await self._filling.end()
            await self._listening.end()

    @property
    def _pause(self) -> float:
        """How long there may be nothing to do, at the most."""
        if not self._recount.is_over:
            return AGAIN_SECONDS
        return RECORD_SECONDS if self._unrecorded.rooms else _POLL_SECONDS

    async def _wait_for_commit(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._committed.wait()

    def _on_wake(self, payload: bytes) -> None:
        rooms = rooms_heard(payload)
        for room in rooms:
            self._handover.want(room)
        self._handover.missed |= not rooms
        self._committed.set()

    async def _step(self, connection: Connection) -> bool:
        """Reconciles if need be, then publishes one batch. Whether there may be more to do at once."""
        try:
            standing = self._standing or await self._reconcile(connection)
            if self._recount.is_due:
                await self._go_on_counting(connection, standing)
            more = await self._publish_next(connection, standing)
            self._store_answered()
            if self._filling.is_over and self._standing is not None:
                await self._filling.mark(standing.identity)
            if self._standing is not None:
                self._filling.tell(*self._standing)
            if time.monotonic() >= self._check_at:
                # First, as what a check finds or comes upon has the stream looked at anyway.
                self._check_at = time.monotonic() + _CHECK_SECONDS
                await self._record(connection)
                await self._check()
            return more
        except FencedOffError as error:
            metrics.RELAY_FENCED.inc()
            self._was_refused = True
            self._log.warning("relay_fenced_off", error=str(error))
            self._doubt("fenced")
        except (BrokerUnavailableError, JetStreamError) as error:
            self._log.warning("relay_publish_failed", error=str(error))
            self._doubt("error")
        await asyncio.sleep(_RETRY_SECONDS)
        return True

    async def _reconcile(self, connection: Connection) -> Standing:
        cause, doubts = self._cause, self._doubts
        metrics.RELAY_RECONCILIATIONS.labels(cause).inc()
        async with while_leading(connection):
            stream, found, strangers = await reconcile(
                connection, self._broker, self._settings.stream, self._reached, self._unrecorded, self._recount
            )
        standing = Standing(stream.identity, stream.last_seq)
        self._log.info("relay_reconciled", cause=cause, found=found, position=standing.position)
        self._withheld.set_strangers(strangers)
        self._withheld.uncounted = self._recount.locked
        self._reconciled_at = stream.last_seq
        self._filling.begin(stream)
        if not self._unrecorded.rooms:
            await self._unrecorded.record(connection, standing, stands_still=self._stands_still)
        if self._doubts == doubts:
            self._standing = standing
        return standing

    async def _go_on_counting(self, connection: Connection, standing: Standing) -> None:
        """Of rooms that were locked when all were counted."""
        for room in await self._recount.go_on(connection):
            self._withheld.uncounted.discard(room)
            self._handover.want(room)
        if self._recount.is_over:
            await self._unrecorded.record(connection, standing, stands_still=self._stands_still)

    async def _publish_next(self, connection: Connection, standing: Standing) -> bool:
        now = time.monotonic()
        handover = self._handover
        due: set[Source] = {"wanted"} if handover.wanted else set()
        if (handover.missed or now >= self._read_at) and now >= self._rest_until:
            due.add("all rooms")
        if handover.has_events:
            due.add("offered")
        source = self._source = source_after(self._source, due)
        if source == "wanted":
            await self._record(connection)
            events = await self._read_wanted(connection)
        elif source == "all rooms":
            self._read_at = now + _POLL_SECONDS
            await self._record(connection)
            events = await self._read(connection)
            if not events and (self._withheld or self._unrecorded.are_locked):
                ended = time.monotonic()
                self._rest_until = ended + min(ended - now, _REST_SECONDS)
        else:
            events = self._withheld.sift(handover.take(MOST_EVENTS, _MOST_BYTES), {}, self._most_bytes)
            if self._unrecorded.is_due:
                await self._record(connection)
        if not events:
            if source == "wanted" or handover.wanted or handover.has_events:
                return True
            if handover.missed and (rest := self._rest_until - time.monotonic()) > 0:
                await self._wait_for_commit(rest)
            return handover.missed
        began_ns = time.time_ns()
        started = time.perf_counter()
        new_rooms = {e.room for e in events if e.stream_seq == 1 and self._handover.head(e.room) is None}
        position = await publish(self._broker, events, standing.position, new_rooms)
        self._was_refused = False
        self._reached = Standing(standing.identity, position)
        metrics.RELAY_PUBLISH_SECONDS.observe(time.perf_counter() - started)
        metrics.RELAY_PUBLISHED.inc(len(events))
        metrics.RELAY_BATCH_SIZE.observe(len(events))
        if (tracer := tracing.active()) is not None:
            traces = [event.traceparent for event in events]
            tracer.record("publish", "producer", traces, began_ns, {"runroom.batch.events": len(events)})
        if self._standing is standing:
            # Otherwise what is published is read from the stream's tail, before anything else is.
            self._standing = Standing(standing.identity, position)
            self._handover.published(events)
            self._unrecorded.add({event.room: event.stream_seq for event in events})
        if len(events) >= _BUSY_EVENTS:
            await asyncio.sleep(_PAUSE_SECONDS)
        return True

    async def _read(self, connection: Connection) -> Sequence[outbox.UnpublishedEvent]:
        """The next events that the event store has to publish."""
        began_at, most_bytes = self._after, self._most_bytes
        if began_at == outbox.START:
            self._withheld.begin_round()
        page = await outbox.read_unpublished(connection, began_at, MOST_EVENTS, _MOST_BYTES, most_bytes)
        # After the last room comes the first again: there may be more there, unless that is where this began, or what
        # is there is withheld.
        self._after = page.last or outbox.START
        is_held_up = self._withheld or self._unrecorded.are_locked
        is_cut = page.last is not None and page.last not in page.faulty and page.last not in self._withheld.strangers
        self._handover.missed = page.last is not None or (began_at != outbox.START and not is_held_up)
        events = self._withheld.sift(page.events, page.faulty, most_bytes)
        if page.last is None:
            self._withheld.end_round()
        events, is_whole = await self._leave_out_published(connection, events)
        self._filling.see_page(
            is_first=began_at == outbox.START,
            is_cut=is_cut or not is_whole or not self._recount.is_over,
            is_last=page.last is None,
        )
        return events

    async def _read_wanted(self, connection: Connection) -> Sequence[outbox.UnpublishedEvent]:
        """The next events of rooms that are known to have some. What is withheld is read in its turn alone; so is what
        somebody keeps locked, as it is read from where it was recorded last."""
        wanted = self._handover.wanted
        unrecorded = self._unrecorded.rooms
        self._handover.missed |= not wanted.isdisjoint(unrecorded)
        rooms = sorted(room for room in wanted if room not in self._withheld and room not in unrecorded)
        wanted.clear()
        if not rooms:
            return []
        most_bytes = self._most_bytes
        page = await outbox.read_rooms(connection, rooms, MOST_EVENTS, _MOST_BYTES, most_bytes)
        if (last := page.last) is not None:
            wanted.update(room for room in rooms if room > last or (room == last and room not in page.faulty))
        events = self._withheld.sift(page.events, page.faulty, most_bytes)
        events, _ = await self._leave_out_published(connection, events)
        return events

    async def _leave_out_published(
        self, connection: Connection, events: Sequence[outbox.UnpublishedEvent]
    ) -> tuple[Sequence[outbox.UnpublishedEvent], bool]:
        """Without what is on the stream, though the store has it as unpublished: it was not recorded, or set back.

        Of a room of which nothing has been published since the stream was looked at, the stream is asked. It is not of
        one that begins: there the publish is fenced, and all rooms are asked about once it was refused.

        And whether that is all. Where the stream takes long, rooms that were not come to are read again by their keys.
        """
        first: dict[RoomKey, int] = {}
        for event in events:
            first.setdefault(event.room, event.stream_seq)
        unrecorded = self._unrecorded.rooms
        unknown = [
            room
            for room, seq in first.items()
            if self._handover.head(room) is None
            and room not in unrecorded
            and (seq > 1 or self._was_refused or room in self._left)
        ]
        left = set[RoomKey]()
        if unknown:
            doubts = self._doubts
            async with while_leading(connection):
                found, strangers, left = await find_heads(connection, self._broker, unknown, self._reconciled_at)
            if self._doubts != doubts:
                return [], False  # they may be those of a stream that is gone
            if strangers:
                self._withheld.set_strangers(self._withheld.strangers | strangers)
            self._left = self._left.difference(unknown) | left
            for room in unknown:
                if room in left:
                    self._handover.want(room)
                else:
                    self._handover.learn(room, found.get(room, first[room] - 1))
        heads = {room: max(self._handover.head(room) or 0, unrecorded.get(room, 0)) for room in first.keys() - left}
        if back := {room: head for room, head in heads.items() if first[room] <= head}:
            self._unrecorded.add(back)
        elif not unknown:
            return events, True
        strangers = self._withheld.strangers
        news = [
            event
            for event in events
            if event.room in heads and event.room not in strangers and event.stream_seq > heads[event.room]
        ]
        return news, not left

    @property
    def _most_bytes(self) -> int:
        return self._broker.most_bytes or 0

    async def _record(self, connection: Connection) -> None:
        """Remembers what was published, if anything was."""
        if self._standing is not None and self._unrecorded.rooms:
            await self._unrecorded.record(connection, self._standing, stands_still=self._stands_still)

    @property
    def _stands_still(self) -> bool:
        """Whether the next leader has to begin where this one did."""
        return bool(self._withheld.strangers) or not self._recount.is_over

    async def _check(self) -> None:
        """Whether the stream is still where it was left, and as it should be."""
        if self._withheld.has_oversize:
            # What the broker takes may be more by now, and is told at the beginning of a connection alone.
            await self._broker.reconnect()
            return
        standing = self._standing
        if standing is None:
            return
        stream = await ensure_stream(self._broker, self._settings.stream, standing.identity)
        self._filling.see(stream)
        if stream.identity != standing.identity or stream.last_seq != standing.position:
            self._doubt("moved")
