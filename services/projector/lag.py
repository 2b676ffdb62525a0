"""How far the projections are behind the event store, per partition, in events and in seconds.

Invariant: measuring costs as much as there is lag, however many rooms there are: what is not yet published is in an
index of its own, and of what is published the worker knows itself what it has yet to apply.
"""

import asyncio
from collections.abc import Sequence
from typing import NamedTuple

import structlog

from services.projector import metrics
from services.projector.event_source import EventSource, UnpublishedRoom
from services.projector.partition import Partition
from services.projector.runner import Runner
from shared.contracts.ids import RoomKey
from shared.contracts.subjects import partition_of
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

    def __init__(self, events: EventSource, runners: Sequence[Runner]) -> None:
        self.worst: dict[str, Lag] = {}
        self._events = events
        self._runners = runners
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
        places = {partition: _places(partition, unpublished.get(partition.number, ())) for _, partition in held}
        ages = await self._events.ages([place for some in places.values() for place in some])
        worst = {runner.name: Lag(0, 0.0) for runner in self._runners}
        for runner, partition in held:
            if partition not in runner.partitions():
                continue
            waiting = unpublished.get(partition.number, ())
            events = partition.lag + sum(room.last_seq - room.published_seq for room in waiting)
            seconds = max((ages.get(place, 0.0) for place in places[partition]), default=0.0) if events else 0.0
            metrics.LAG.labels(runner.name, str(partition.number)).set(events)
            metrics.LAG_SECONDS.labels(runner.name, str(partition.number)).set(seconds)
            before = worst[runner.name]
            worst[runner.name] = Lag(before.events + events, max(before.seconds, seconds))
        self.worst = worst


def _places(partition: Partition, unpublished: Sequence[UnpublishedRoom]) -> list[tuple[RoomKey, int]]:
    return [*partition.next_places(_MOST_BEHIND), *((room.key, room.published_seq + 1) for room in unpublished)]
