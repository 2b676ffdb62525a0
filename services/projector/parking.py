"""Parked events: taken over with their partitions, and seen to when an operator wants it.

Invariant: whoever holds a partition knows what is parked in it, soon after it took it. Only that worker retries or
skips, in transactions that carry its epoch; everybody else writes down what is wanted.
"""

import asyncio
from collections.abc import Sequence
from typing import NamedTuple

import structlog

from services.projector.event_source import EventSource
from services.projector.projection_store import ProjectionStore
from services.projector.runner import Runner
from shared.postgres import STORE_ERRORS
from shared.telemetry import Logger

TICK_SECONDS = 0.5
MOST_EVENTS = 1000
"""Parked events looked at per projection and tick; those that something is wanted of come first."""


class Attended(NamedTuple):
    """A projection's runner, and a connection of its own to read what is parked."""

    runner: Runner
    store: ProjectionStore


class Attendant:
    def __init__(self, events: EventSource, projections: Sequence[Attended]) -> None:
        self._events = events
        self._projections = projections
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
            return
        published = await self._events.published_of([event.key for event in news])
        for event in news:
            if event.wanted is not None:
                self._log.info(
                    "parked_event_wanted",
                    projection=runner.name,
                    wanted=event.wanted,
                    workspace_id=event.key.workspace_id,
                    room_id=event.key.room_id,
                    stream_seq=event.stream_seq,
                )
            runner.park(event, published.get(event.key, 0))
