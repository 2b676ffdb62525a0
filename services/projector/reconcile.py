"""Finding rooms whose last events never came by the stream, and no later ones to show that they are missing.

Invariant: a room that was published and stands still in a projection does not do so for good. The rooms are gone
through a page at a time, all over again: a bounded cost however many there are.
"""

import asyncio
from collections.abc import Sequence
from typing import NamedTuple

import structlog

from services.projector import metrics
from services.projector.event_source import EventSource, PublishedRoom
from services.projector.projection_store import ProjectionStore
from services.projector.runner import Runner
from shared.contracts.ids import RoomKey
from shared.contracts.subjects import partition_of
from shared.postgres import STORE_ERRORS
from shared.telemetry import Logger

PAGE_ROOMS = 1000
TICK_SECONDS = 2.0
_START = RoomKey("", "")


class Reconciled(NamedTuple):
    """A projection's runner, and a connection to ask how far its rooms have come."""

    runner: Runner
    store: ProjectionStore


class Reconciler:
    def __init__(self, events: EventSource, projections: Sequence[Reconciled]) -> None:
        self._events = events
        self._projections = projections
        self._log: Logger = structlog.get_logger("reconcile")

    async def run(self) -> None:
        """Never returns."""
        after = _START
        page: list[PublishedRoom] = []
        while True:
            # A page is compared one tick after it was read: what is on its way by then has arrived.
            await asyncio.sleep(TICK_SECONDS)
            try:
                await self._compare(page)
                page = await self._next_page(after)
                after = page[-1].key if len(page) == PAGE_ROOMS else _START
            except STORE_ERRORS as error:
                self._log.debug("not_reconciled", error=type(error).__name__)
                page = []

    async def _next_page(self, after: RoomKey) -> list[PublishedRoom]:
        if not any(projection.runner.held() for projection in self._projections):
            return []
        return await self._events.published_rooms(after, PAGE_ROOMS)

    async def _compare(self, page: Sequence[PublishedRoom]) -> None:
        for runner, store in self._projections:
            quiet = runner.quiet_partitions()
            rooms = [(room.key, room.published_seq) for room in page if partition_of(*room.key) in quiet]
            lagging = await store.lagging(rooms) if rooms else []
            news = sum([runner.want(key, seq) for key, seq in lagging])
            if news:
                self._log.warning("rooms_lag_behind", projection=runner.name, rooms=news)
                metrics.HEALED.labels(runner.name).inc(news)
