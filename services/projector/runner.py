"""Working on all partitions a worker owns of one projection.

Invariant: what was taken from the stream is applied, or was applied by somebody else, or stays wanted; it is never
just let go. An outage is waited out with the batch in hand; an event that cannot be applied stops its room alone.
"""

import asyncio
import time
from collections.abc import Collection
from contextlib import suppress

import structlog

from services.projector import metrics
from services.projector.applier import Applier
from services.projector.batch import Batch, take_batch, take_due
from services.projector.consumer import Inbox
from services.projector.leases import Lease
from services.projector.pace import Pace
from services.projector.partition import HeldRoom, Partition, Room, Turn
from services.projector.projection_store import LeaseLostError, ParkedEvent
from services.projector.stream_watch import StreamWatch, resume_after
from shared.contracts.ids import RoomKey
from shared.contracts.subjects import partition_of, room_subject
from shared.messaging.broker import Broker, BrokerUnavailableError, JetStreamError
from shared.messaging.stream import StreamState
from shared.postgres import STORE_ERRORS
from shared.telemetry import Logger

_TEND_SECONDS = 0.25
_IDLE_SECONDS = 0.25
_SHORTEST_BACKOFF = 0.1
_LONGEST_BACKOFF = 2.0
_GIVE_BACK_SECONDS = 0.5
_MOST_REASON = 100
"""Characters: the name of an error, in a table that others may write to."""
_RETRY_SHARE = 0.25
"""Of a worker's time, for what did not go well before, however much there is of it."""
_SMALL_BATCH = 100
_PAUSE_SECONDS = 0.01
"""After a batch smaller than that, so that the next one is larger: a commit for each event would flush PostgreSQL's log
as often as all commands do, and slow them down. An event after a pause is applied at once."""


class Runner:
    """One projection of one worker. ``grant``, ``drop`` and ``give_back`` are the lease keeper's."""

    def __init__(self, name: str, applier: Applier, broker: Broker, watch: StreamWatch) -> None:
        self.name = name
        self._applier = applier
        self._watch = watch
        self._partitions: dict[int, Partition] = {}
        self._arrived = asyncio.Event()
        self._tend = asyncio.Event()
        self._resting = asyncio.Event()
        self._resting.set()
        self._inbox = Inbox(broker, self._arrived.set)
        self._turn = 0
        self._retries = Pace(_RETRY_SHARE)
        self._store_well = True
        self._stream_well = True
        self.is_refused = False
        """Whether the stream takes no consumer of ours."""
        self._log: Logger = structlog.get_logger("runner").bind(projection=name)
        watch.on_change(self._on_stream_change)

    def held(self) -> dict[int, int]:
        return {number: partition.epoch for number, partition in self._partitions.items()}

    def held_rooms(self) -> list[HeldRoom]:
        return [room for partition in self._partitions.values() for room in partition.held_rooms()]

    def grant(self, leases: Collection[Lease]) -> None:
        for lease in leases:
            self._partitions[lease.partition] = Partition(lease)
        metrics.LEASES.labels(self.name).set(len(self._partitions))
        self._tend.set()

    def drop(self, partitions: Collection[int]) -> None:
        metrics.LEASES_LOST.labels(self.name).inc(len(partitions))
        self._let_go(partitions)

    async def give_back(self, partitions: Collection[int]) -> None:
        self._let_go(partitions)
        with suppress(TimeoutError):
            async with asyncio.timeout(_GIVE_BACK_SECONDS):
                await self._resting.wait()

    def partitions(self) -> list[Partition]:
        """What is worked on, to be looked at."""
        return list(self._partitions.values())

    def quiet_partitions(self) -> set[int]:
        """Partitions of which everything on the stream has been taken."""
        return {number for number, partition in self._partitions.items() if partition.is_quiet}

    def want(self, key: RoomKey, seq: int) -> bool:
        """Has the room's events up to ``seq`` read from the event store, if it is ours. Whether that is news."""
        room = self._room(key)
        if room is None or room.wanted_seq >= seq:
            return False
        room.want(seq)
        self._arrived.set()
        if room.partition.is_quiet and not room.partition.in_hand:
            self._doubt_consumer(room.partition)
        return True

    def _doubt_consumer(self, partition: Partition) -> None:
        """It says that there is no more, and there is: somebody may have made another of it."""
        if partition.consumer is not None:
            partition.consumer.fault = "events missing"
            self._tend.set()

    def knows(self, parked: ParkedEvent) -> bool:
        """Whether the room is held back before this event already, or beyond it, or is not ours."""
        room = self._room(parked.key)
        return room is None or room.held_at == parked.stream_seq or room.applied_seq >= parked.stream_seq

    def park(self, parked: ParkedEvent, published_seq: int) -> None:
        """Holds a room back before an event, or does what is wanted of the event."""
        room = self._room(parked.key)
        if room is None or room.applied_seq >= parked.stream_seq:
            return
        if room.held_at != parked.stream_seq:
            room.hold_again(parked.stream_seq, parked.error.partition(":")[0][:_MOST_REASON], parked.attempts)
        room.want(published_seq)
        if parked.wanted is not None:
            room.try_now(skip=parked.wanted == "skip")
            self._arrived.set()
        self._count_rooms()

    def unpark(self, parked: ParkedEvent, published_seq: int) -> None:
        """Lets a room go that is held back before what is no event of it."""
        room = self._room(parked.key)
        if room is None or room.held_at != parked.stream_seq:
            return
        room.let_go()
        if published_seq > room.applied_seq:
            room.want(published_seq)
            self._arrived.set()
        self._count_rooms()

    async def run(self) -> None:
        """Never returns."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._tend_consumers(), name=f"{self.name}-consumers")
            tasks.create_task(self._apply_batches(), name=f"{self.name}-apply")

    def _room(self, key: RoomKey) -> Room | None:
        partition = self._partitions.get(partition_of(*key))
        return partition.room(room_subject(*key)) if partition else None

    def _let_go(self, partitions: Collection[int]) -> None:
        for number in list(partitions):
            partition = self._partitions.pop(number, None)
            if partition is not None and partition.consumer is not None:
                partition.consumer.fault = "released"
            for gauge in (metrics.LAG, metrics.LAG_SECONDS):
                with suppress(KeyError):
                    gauge.remove(self.name, str(number))
        metrics.LEASES.labels(self.name).set(len(self._partitions))
        self._count_rooms()
        self._tend.set()

    def _is_ours(self, partition: Partition) -> bool:
        return self._partitions.get(partition.number) is partition

    # Consumers

    def _on_stream_change(self) -> None:
        self._inbox.fail_all("reconnected or recreated")
        self._tend.set()

    async def _tend_consumers(self) -> None:
        while True:
            self._tend.clear()
            try:
                await self._inbox.close_useless()
                if (stream := self._watch.state) is not None:
                    await self._open_missing(stream)
                self._stream_well, self.is_refused = True, False
            except (BrokerUnavailableError, JetStreamError) as error:
                self.is_refused = isinstance(error, JetStreamError)
                if self._stream_well:
                    self._log.warning("stream_unavailable", error=str(error))
                self._stream_well = False
                await asyncio.sleep(_TEND_SECONDS)
            with suppress(TimeoutError):
                async with asyncio.timeout(_TEND_SECONDS):
                    await self._tend.wait()

    async def _open_missing(self, stream: StreamState) -> None:
        now = time.monotonic()
        for partition in list(self._partitions.values()):
            consumer = partition.consumer
            if consumer is not None:
                consumer.check(now)
            if consumer is None or consumer.fault is not None or consumer.stream_key != stream.identity.key:
                await self._open(partition, stream)

    async def _open(self, partition: Partition, stream: StreamState) -> None:
        cause = "start" if partition.consumer is None else partition.consumer.fault or "stream changed"
        if partition.consumer is not None:
            # From here on nothing is taken from it, so the position stands still.
            partition.consumer.fault = cause
        after = resume_after(partition.stream_key, partition.position, stream)
        consumer = await self._inbox.open(self.name, partition.number, after + 1, stream.identity.key)
        metrics.CONSUMERS.labels(self.name, cause).inc()
        self._log.debug("consumer_opened", partition=partition.number, after=after, cause=cause)
        if not self._is_ours(partition):
            consumer.fault = "released"
            return
        partition.restart(consumer, after)
        self._count_rooms()
        await self._inbox.pull(consumer)

    # Batches

    async def _apply_batches(self) -> None:
        while True:
            self._arrived.clear()
            partitions = self._in_turn()
            batch = take_batch(partitions)
            await self._ask_for_more(partitions)
            is_busy = await self._work(batch)
            messages = batch.messages
            for turn in (Turn.WISHED, Turn.FIRST):
                is_busy |= await self._work(take_due(partitions, time.monotonic(), turn))
            if self._retries.is_due(started := time.monotonic()):
                is_busy |= await self._work(take_due(partitions, started, Turn.RETRY))
                self._retries.spent(started, time.monotonic())
            if not is_busy:
                with suppress(TimeoutError):
                    async with asyncio.timeout(_IDLE_SECONDS):
                        await self._arrived.wait()
            elif messages < _SMALL_BATCH:
                await asyncio.sleep(_PAUSE_SECONDS)

    async def _work(self, batch: Batch) -> bool:
        """Applies the batch. Whether there was anything in it."""
        if not batch.keep(self._is_ours):
            return False
        self._resting.clear()
        try:
            await self._apply(batch)
        finally:
            self._resting.set()
        for portion in batch.portions:
            portion.partition.in_hand = []
            portion.partition.trim()
        self._count_rooms()
        return True

    def _count_rooms(self) -> None:
        behind = sum(len(partition.behind) for partition in self._partitions.values())
        holed = sum(room.is_holed for partition in self._partitions.values() for room in partition.behind.values())
        metrics.BEHIND_ROOMS.labels(self.name).set(behind)
        metrics.HOLED_ROOMS.labels(self.name).set(holed)
        held = sum(partition.held for partition in self._partitions.values())
        metrics.PARKED_EVENTS.labels(self.name).set(held)

    def _in_turn(self) -> list[Partition]:
        partitions = list(self._partitions.values())
        self._turn = (self._turn + 1) % max(len(partitions), 1)
        return partitions[self._turn :] + partitions[: self._turn]

    async def _ask_for_more(self, partitions: list[Partition]) -> None:
        for partition in partitions:
            consumer = partition.consumer
            if consumer is not None and consumer.wants_more:
                try:
                    await self._inbox.pull(consumer)
                except BrokerUnavailableError:
                    consumer.fault = "disconnected"
                    self._tend.set()

    async def _apply(self, batch: Batch) -> None:
        """Tries until the batch is applied or nothing of it is ours any more."""
        backoff = _SHORTEST_BACKOFF
        while batch.keep(self._is_ours):
            try:
                await self._applier.apply(batch)
            except LeaseLostError as error:
                self._log.warning("late_write_refused", partitions=sorted(error.partitions))
                batch_of = {portion.partition.number: portion.partition for portion in batch.portions}
                self.drop([number for number in error.partitions if self._is_ours(batch_of[number])])
            except STORE_ERRORS as error:
                if self._store_well:
                    self._log.warning("projection_store_unavailable", error=type(error).__name__)
                self._store_well = False
                metrics.STORE_RETRIES.labels(self.name).inc()
                for portion in batch.portions:
                    portion.partition.doubt()
                await asyncio.sleep(backoff)
                backoff = min(backoff * 2, _LONGEST_BACKOFF)
            else:
                if not self._store_well:
                    self._log.info("projection_store_available")
                self._store_well = True
                return
