"""Runs as events with the library ``eventsourcing``: a program that prints JSON when it is done.

``save DSN SECONDS CALLERS CONNECTIONS``: each caller, a thread, saves one new aggregate of one event after another.
``fill DSN RUNS``: whole runs of eight events. ``project DSN``: all events into a table of runs and one of steps, each
event in one transaction with the projection's tracking record, as the library does it.
"""

import json
import sys
import threading
import time
from typing import Any
from urllib.parse import urlsplit
from uuid import NAMESPACE_URL, uuid5

from eventsourcing.application import Application
from eventsourcing.dispatch import singledispatchmethod
from eventsourcing.domain import Aggregate, event
from eventsourcing.persistence import Tracking
from eventsourcing.postgres import PostgresDatastore, PostgresTrackingRecorder
from eventsourcing.projection import Projection, ProjectionRunner
from psycopg.sql import SQL
from psycopg.types.json import Json

STEPS = 5
TABLES = (
    "create table projected_runs (id uuid primary key, room text, title text, status text, tags text[], input json,"
    " output json)",
    "create table projected_steps (id uuid primary key, run_id uuid, kind text, title text, input json)",
)


class Run(Aggregate):
    @event("Created")
    def __init__(self, room: str, title: str, goal: str, given: dict[str, Any], tags: list[str]) -> None:
        self.room = room
        self.title = title
        self.goal = goal
        self.given = given
        self.tags = tags

    @event("Started")
    def start(self) -> None:
        pass

    @event("StepCreated")
    def add_step(self, kind: str, title: str, given: dict[str, Any]) -> None:
        pass

    @event("Completed")
    def complete(self, summary: str, output: dict[str, Any]) -> None:
        pass


class Runs(Application[Any]):
    name = "runs"


def new_run(number: int) -> Run:
    return Run(
        room=f"room_{number % 1000}",
        title="Plan the offsite",
        goal="Everybody in one place for two days",
        given={"people": 12, "month": "June"},
        tags=["ops", "bench"],
    )


def whole_run(number: int) -> Run:
    run = new_run(number)
    run.start()
    for _ in range(STEPS):
        run.add_step("tool", "Find a date", {"month": "June"})
    run.complete("June", {"days": 3})
    return run


def environment(dsn: str, connections: int) -> dict[str, str]:
    """The library's settings; insertion by a function in the database is its fastest way."""
    at = urlsplit(dsn)
    return {
        "PERSISTENCE_MODULE": "eventsourcing.postgres",
        "POSTGRES_HOST": str(at.hostname),
        "POSTGRES_PORT": str(at.port),
        "POSTGRES_USER": str(at.username),
        "POSTGRES_PASSWORD": str(at.password),
        "POSTGRES_DBNAME": at.path[1:],
        "POSTGRES_POOL_SIZE": str(connections),
        "POSTGRES_MAX_OVERFLOW": "0",
        "POSTGRES_MAX_WAITING": "0",
        "POSTGRES_PRE_PING": "n",
        "POSTGRES_ENABLE_DB_FUNCTIONS": "y",
        "SINGLE_ROW_TRACKING": "y",
    }


def save(dsn: str, seconds: float, callers: int, connections: int) -> dict[str, float]:
    counts = [0] * callers
    with Runs(environment(dsn, connections)) as app:
        started = time.perf_counter()

        def call(caller: int) -> None:
            while time.perf_counter() < started + seconds:
                app.save(new_run(counts[caller] * callers + caller))
                counts[caller] += 1

        threads = [threading.Thread(target=call, args=(caller,)) for caller in range(callers)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        took = time.perf_counter() - started
    return {"events": sum(counts), "seconds": took}


def fill(dsn: str, runs: int) -> dict[str, float]:
    app = Runs(environment(dsn, 1))
    started = time.perf_counter()
    for first in range(0, runs, 100):
        app.save(*(whole_run(number) for number in range(first, min(first + 100, runs))))
    events = app.recorder.max_notification_id() or 0
    app.close()
    return {"events": events, "seconds": time.perf_counter() - started}


class RunsView(PostgresTrackingRecorder):
    def __init__(self, datastore: PostgresDatastore, **arguments: Any) -> None:
        super().__init__(datastore, **arguments)
        self.sql_create_statements.extend(SQL(table) for table in TABLES)

    def write(self, tracking: Tracking, statement: str, *values: Any) -> None:
        with self.datastore.transaction(commit=True) as cursor:
            cursor.execute(statement, values, prepare=True)
            self._insert_tracking(cursor, tracking)


class RunsProjection(Projection[RunsView]):
    name = "projected"

    @singledispatchmethod
    def process_event(self, domain_event: Any, tracking: Tracking) -> None:
        raise NotImplementedError(type(domain_event))

    @process_event.register
    def _(self, domain_event: Run.Created, tracking: Tracking) -> None:
        self.view.write(
            tracking,
            "insert into projected_runs values (%s, %s, %s, 'queued', %s, %s, null)",
            domain_event.originator_id,
            domain_event.room,
            domain_event.title,
            domain_event.tags,
            Json(domain_event.given),
        )

    @process_event.register
    def _(self, domain_event: Run.Started, tracking: Tracking) -> None:
        self.view.write(
            tracking, "update projected_runs set status = 'running' where id = %s", domain_event.originator_id
        )

    @process_event.register
    def _(self, domain_event: Run.StepCreated, tracking: Tracking) -> None:
        self.view.write(
            tracking,
            "insert into projected_steps values (%s, %s, %s, %s, %s)",
            uuid5(NAMESPACE_URL, f"{domain_event.originator_id}/{domain_event.originator_version}"),
            domain_event.originator_id,
            domain_event.kind,
            domain_event.title,
            Json(domain_event.given),
        )

    @process_event.register
    def _(self, domain_event: Run.Completed, tracking: Tracking) -> None:
        self.view.write(
            tracking,
            "update projected_runs set status = 'succeeded', output = %s where id = %s",
            Json(domain_event.output),
            domain_event.originator_id,
        )


def project(dsn: str) -> dict[str, float]:
    env = environment(dsn, 2)
    with Runs(env) as app:
        events = app.recorder.max_notification_id() or 0
        with app.factory.datastore.transaction(commit=True) as cursor:
            cursor.execute("drop table if exists projected_runs, projected_steps, projected_tracking")
    started = time.perf_counter()
    with ProjectionRunner(
        application_class=Runs, projection_class=RunsProjection, view_class=RunsView, env=env
    ) as runner:
        runner.wait(events, timeout=600)
        return {"events": events, "seconds": time.perf_counter() - started}


def main(arguments: list[str]) -> dict[str, float]:
    match arguments:
        case ["save", dsn, seconds, callers, connections]:
            return save(dsn, float(seconds), int(callers), int(connections))
        case ["fill", dsn, runs]:
            return fill(dsn, int(runs))
        case ["project", dsn]:
            return project(dsn)
        case _:
            raise SystemExit(__doc__)


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1:])))
