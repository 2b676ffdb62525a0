"""How far the projections are behind the event store, per partition, in events and in seconds.

Invariant: measuring costs as much as there is lag, however many rooms there are: what is not yet published is in an
index of its own, and of what is published the worker knows itself what it has yet to apply, or asks the stream where it
has no consumer that would say so. A room that waits for an operator, behind a parked event or before one that is not
there, does not count: nothing that projectors do would make that less, and it has an alert of its own.
"""

import asyncio
from collections.abc import Sequence
from typing import NamedTuple

import structlog

from services.projector import metrics
from services.projector.event_source import Age, EventSource, UnpublishedRoom
from services.projector.partition import Partition
from services.projector.runner import Runner
from services.projector.stream_watch import StreamWatch, resume_after
from shared.contracts.ids import RoomKey
from shared.contracts.subjects import partition_filter, partition_of, room_of, stream_seq_of
from shared.messaging.broker import Broker, BrokerUnavailableError
from shared.messaging.direct_get import following
from shared.postgres import STORE_ERRORS
from shared.telemetry import Logger

TICK_SECONDS = 2.0
MOST_ROOMS = 1000
"""Unpublished rooms looked at; with more the lag is told as that of the first ones."""
_MOST_BEHIND = 20


class Lag(NamedTuple):
    """``events`` over all partitions held, and the age in ``seconds`` of the oldest of them."""

    events: int
    seconds: float


class LagMeter:
    """``worst`` is the last measurement of each projection, over the partitions this worker holds."""

    def __init__(self, events: EventSource, runners: Sequence[Runner], broker: Broker, watch: StreamWatch) -> None:
        self.worst: dict[str, Lag] = {}
        self._events = events
        self._runners = runners
        self._broker = broker
        self._watch = watch
        self._log: Logger = structlog.get_logger("lag")

    async def run(self) -> None:
        """Never returns."""
        while True:
            await asyncio.sleep(TICK_SECONDS)
            try:
                await self._measure()
            except STORE_ERRORS as error:
                self._log.debug("lag_not_measured", error=type(error).__name__)

    async def _measure(self) -> None:
        unpublished: dict[int, list[UnpublishedRoom]] = {}
        for room in await self._events.unpublished_rooms(MOST_ROOMS):
            unpublished.setdefault(partition_of(*room.key), []).append(room)
        held = [(runner, partition) for runner in self._runners for partition in runner.partitions()]
        await asyncio.gather(*(self._look_ahead(partition) for _, partition in held if not partition.is_read))
        places = {partition: partition.next_places(_MOST_BEHIND) for _, partition in held}
        heads = [
            _next(room)
            for number in {partition.number for _, partition in held}
            for room in unpublished.get(number, ())
        ]
        ages = await self._events.ages([*heads, *(place for some in places.values() for place in some)])
        worst = {runner.name: Lag(0, 0.0) for runner in self._runners}
        for runner, partition in held:
            if partition not in runner.partitions():
                continue
            waiting = [
                room for room in unpublished.get(partition.number, ()) if self._is_publishable(ages.get(_next(room)))
            ]
            events = partition.lag + sum(room.last_seq - room.published_seq for room in waiting)
            oldest = [age.seconds for place in (*places[partition], *map(_next, waiting)) if (age := ages.get(place))]
            seconds = max(oldest, default=0.0) if events else 0.0
            metrics.LAG.labels(runner.name, str(partition.number)).set(events)
            metrics.LAG_SECONDS.labels(runner.name, str(partition.number)).set(seconds)
            before = worst[runner.name]
            worst[runner.name] = Lag(before.events + events, max(before.seconds, seconds))
        self.worst = worst

    async def _look_ahead(self, partition: Partition) -> None:
        """Counts what the stream holds for a partition that is not read from it; unchanged where it cannot be asked."""
        if (stream := self._watch.state) is None:
            return
        after = resume_after(partition.stream_key, partition.position, stream)
        try:
            ahead = await following(self._broker, partition_filter(partition.number), after + 1)
        except BrokerUnavailableError as error:
            self._log.debug("lag_not_measured", error=str(error))
            return
        partition.unread = ahead.number if ahead else 0
        key = room_of(ahead.first.subject) if ahead else None
        partition.next_unread = (key, stream_seq_of(ahead.first.headers)) if ahead and key else None

    def _is_publishable(self, head: Age | None) -> bool:
        most = self._broker.most_bytes
        return head is not None and head.is_well_formed and (most is None or head.size <= most)


def _next(room: UnpublishedRoom) -> tuple[RoomKey, int]:
    return room.key, room.published_seq + 1
