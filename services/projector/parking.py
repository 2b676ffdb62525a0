"""Parked events: taken over with their partitions, and seen to when an operator wants it.

Invariant: whoever holds a partition knows what is parked in it, soon after it took it. Only that worker retries or
skips, in transactions that carry its epoch; everybody else writes down what is wanted.
"""

import asyncio
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

import structlog

from services.projector.event_source import EventSource, Reach
from services.projector.projection_store import ParkedEvent, ProjectionStore
from services.projector.runner import Runner
from shared.contracts.ids import RoomKey
from shared.contracts.subjects import partition_of
from shared.postgres import STORE_ERRORS
from shared.telemetry import Logger

TICK_SECONDS = 0.5
MOST_EVENTS = 1000
"""Parked events looked at per projection and tick; those that something is wanted of come first."""


class Attended(NamedTuple):
    """A projection's runner, and a connection of its own for what is parked."""

    runner: Runner
    store: ProjectionStore


class Attendant:
    def __init__(self, events: EventSource, projections: Sequence[Attended]) -> None:
        self._events = events
        self._projections = projections
        self._known: dict[str, frozenset[tuple[RoomKey, int, str | None]]] = {}
        """What was wanted at the last look, by projection."""
        self._log: Logger = structlog.get_logger("parking")

    async def run(self) -> None:
        """Never returns."""
        while True:
            await asyncio.sleep(TICK_SECONDS)
            try:
                for attended in self._projections:
                    await self._attend(attended)
            except STORE_ERRORS as error:
                self._log.debug("parking_not_attended", error=type(error).__name__)

    async def _attend(self, attended: Attended) -> None:
        runner, store = attended
        if not (held := list(runner.held())):
            return
        parked = await store.parked(held, MOST_EVENTS)
        news = [event for event in parked if event.wanted is not None or not runner.knows(event)]
        if not news:
            self._known.pop(runner.name, None)
            return
        reached = await self._events.published_of([event.key for event in news])
        wanted = [event for event in news if event.wanted is not None]
        idle = await self._settle(store, wanted, reached)
        for event in news:
            published_seq = reached[event.key].published_seq if event.key in reached else 0
            if event in idle:
                runner.unpark(event, published_seq)
            else:
                runner.park(event, published_seq)
        self._say(runner.name, wanted, idle)

    async def _settle(
        self, store: ProjectionStore, wanted: Sequence[ParkedEvent], reached: Mapping[RoomKey, Reach]
    ) -> set[ParkedEvent]:
        """Takes out and returns those of which nothing can come: no projector parked them, or what they say is over."""
        if not wanted:
            return set()
        applied = await store.applied_seqs([event.key for event in wanted])
        idle = {
            event
            for event in wanted
            if event.key not in reached
            or event.stream_seq > reached[event.key].last_seq
            or event.stream_seq <= applied.get(event.key, 0)
            or event.partition != partition_of(*event.key)
        }
        if idle:
            await store.settle([(event.key, event.stream_seq) for event in idle])
        return idle

    def _say(self, projection: str, wanted: Sequence[ParkedEvent], idle: Collection[ParkedEvent]) -> None:
        """A wish is news once, for as long as it stands."""
        known = self._known.get(projection, frozenset())
        self._known[projection] = frozenset((event.key, event.stream_seq, event.wanted) for event in wanted)
        for event in wanted:
            if (event.key, event.stream_seq, event.wanted) not in known:
                self._log.info(
                    "parked_event_wanted",
                    projection=projection,
                    wanted=event.wanted,
                    workspace_id=event.key.workspace_id,
                    room_id=event.key.room_id,
                    stream_seq=event.stream_seq,
                    is_taken_out=event in idle,
                )
