"""The projections a worker runs: every version of its own schema that is read, or is ready to be.

Invariant: which versions run is up to ``projector_versions`` alone. A version that appears there is taken up within
about a second, one that goes is put down; the others are not disturbed. What is read and worked on by nobody shows, at
whoever is alive.
"""

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import asyncpg
import structlog

from services.projector import metrics
from services.projector.applier import Applier
from services.projector.event_source import EventSource
from services.projector.parking import Attended
from services.projector.projection_store import ProjectionStore
from services.projector.projections.base import Projection
from services.projector.reconcile import Reconciled
from services.projector.runner import Runner
from services.projector.session import Session
from services.projector.stream_watch import StreamWatch
from shared.contracts.subjects import PARTITIONS
from shared.messaging.broker import Broker
from shared.postgres import STORE_ERRORS, load_queries
from shared.telemetry import Logger

_SQL = load_queries(Path(__file__).parent / "sql")

TICK_SECONDS = 1.0
_FIRST_TRIES_SECONDS = 0.25


class Sessions(NamedTuple):
    """Make a connection of its own, to the one database or the other."""

    projections: Callable[[], Session]
    events: Callable[[], Session]


class Crew:
    """``runners``, ``reconciled`` and ``attended`` are the same versions, and change as those do."""

    def __init__(
        self, projections: Mapping[str, Projection], sessions: Sessions, broker: Broker, watch: StreamWatch, worker: str
    ) -> None:
        self.runners: list[Runner] = []
        self.reconciled: list[Reconciled] = []
        self.attended: list[Attended] = []
        self._projections = projections
        self._sessions = sessions
        self._session = sessions.projections()
        self._broker = broker
        self._watch = watch
        self._worker = worker
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._opened: dict[str, list[Session]] = {}
        self._passed_over: set[str] = set()
        self._log: Logger = structlog.get_logger("crew")

    async def run(self) -> None:
        """Never returns."""
        async with asyncio.TaskGroup() as tasks:
            while True:
                try:
                    await self._look(tasks)
                except STORE_ERRORS as error:
                    self._session.discard()
                    metrics.UNHELD.clear()
                    self._log.debug("versions_not_seen", error=type(error).__name__)
                await asyncio.sleep(TICK_SECONDS if self._tasks else _FIRST_TRIES_SECONDS)

    async def _look(self, tasks: asyncio.TaskGroup) -> None:
        connection = await self._session.get()
        rows = await connection.fetch(_SQL["running_versions"])
        wanted = {row["name"]: (row["projection"], row["version"]) for row in rows if self._fits(row)}
        for name in self._tasks.keys() - wanted.keys():
            await self._stop(name)
        for name, (projection, version) in wanted.items():
            if name not in self._tasks:
                runner = self._start(self._projections[projection], name, version)
                self._tasks[name] = tasks.create_task(runner.run(), name=f"projection {name}")
        held = {row["name"]: row["held"] for row in await connection.fetch(_SQL["held_partitions"])}
        metrics.UNHELD.clear()
        for name, partitions in held.items():
            metrics.UNHELD.labels(name).set(PARTITIONS - partitions)

    def _fits(self, version: asyncpg.Record) -> bool:
        """Whether our statements fit its tables. Workers of the release that made them see to the others."""
        name, projection = version["name"], self._projections.get(version["projection"])
        if projection is not None and projection.schema == version["schema"]:
            return True
        if name not in self._passed_over:
            self._passed_over.add(name)
            self._log.info("version_left_to_another_release", projection=name, schema=version["schema"])
        return False

    def _start(self, projection: Projection, name: str, version: int) -> Runner:
        opened = self._opened[name] = []

        def session(make: Callable[[], Session]) -> Session:
            opened.append(make())
            return opened[-1]

        def store() -> ProjectionStore:
            return ProjectionStore(session(self._sessions.projections), name, self._worker, version)

        applier = Applier(projection, name, store(), EventSource(session(self._sessions.events)), self._broker)
        runner = Runner(name, applier, self._broker, self._watch)
        self.reconciled.append(Reconciled(runner, store()))
        self.attended.append(Attended(runner, store()))
        self.runners.append(runner)
        self._log.info("version_taken_up", projection=name)
        return runner

    async def _stop(self, name: str) -> None:
        runner = next(runner for runner in self.runners if runner.name == name)
        await runner.give_back(list(runner.held()))
        self._tasks.pop(name).cancel()
        self.runners.remove(runner)
        self.reconciled[:] = [entry for entry in self.reconciled if entry.runner is not runner]
        self.attended[:] = [entry for entry in self.attended if entry.runner is not runner]
        for session in self._opened.pop(name):
            await session.close()
        self._log.info("version_put_down", projection=name)
