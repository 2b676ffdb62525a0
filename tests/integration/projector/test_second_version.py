"""A release with a second version of an event: what is stored is read by it, and stays as it was written."""

from __future__ import annotations

import shutil
from functools import partial
from pathlib import Path

import asyncpg

from tests.integration.projector.commands import command
from tests.integration.projector.history import RoomHistory, publish, store
from tests.integration.projector.workers import applied, feed_matches, running
from tests.integration.query import service
from tests.support.servers import REPOSITORY

V2 = REPOSITORY / "tests" / "support" / "step_created_v2.py"


def next_release(folder: Path) -> Path:
    """This release, but that its registry is the one with version 2."""
    for package in ("services", "shared"):
        shutil.copytree(REPOSITORY / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(V2, folder / "shared" / "contracts")
    with (folder / "shared" / "contracts" / "upcasting.py").open("a") as module:
        module.write("\nfrom shared.contracts.step_created_v2 import registry\n")
    return folder


async def titles(dsn: str) -> list[str | None]:
    connection = await asyncpg.connect(dsn)
    try:
        return [row["title"] for row in await connection.fetch("select title from proj_steps order by stream_seq")]
    finally:
        await connection.close()


async def test_stored_events_are_lifted_on_read_and_never_rewritten(
    event_store_dsn: str, projection_dsn: str, stream_url: str, tmp_path: Path
) -> None:
    release = next_release(tmp_path / "release")
    run = partial(command, event_store=event_store_dsn, projections=projection_dsn, nats=stream_url, release=release)
    history = RoomHistory("room", service.WORKSPACE)
    history.created("run_1")
    history.started("run_1")
    history.step("run_1", title="look")
    history.step("run_1", title=None)
    await store(event_store_dsn, history.events)
    await publish(stream_url, history.events)

    with running(event_store_dsn, projection_dsn, stream_url, tmp_path, 1):
        await applied(projection_dsn, [history])
    assert await titles(projection_dsn) == ["look", None]

    with running(event_store_dsn, projection_dsn, stream_url, tmp_path, 0) as workers:
        workers.start(release)
        # From the event store: what is there is of version 1.
        status, output = await run("rebuild", "runs", "--changed")
        assert status == 0, output
        assert await titles(projection_dsn) == ["look", "tool"]
        # From the stream: another service of the release before goes on writing version 1.
        history.step("run_1", title=None)
        await store(event_store_dsn, history.events[-1:])
        await publish(stream_url, history.events[-1:])
        await applied(projection_dsn, [history], projections=("runs@2", "room_feed"))
        assert await titles(projection_dsn) == ["look", "tool", "tool"]
        status, output = await run("verify")
        assert status == 0, output
    await feed_matches(projection_dsn, [history])

    stored = await asyncpg.connect(event_store_dsn)
    try:
        rows = await stored.fetch("select envelope from events order by stream_seq")
    finally:
        await stored.close()
    assert [row["envelope"] for row in rows] == [event.envelope for event in history.events]
    variables = {"PROJECTION_DSN": projection_dsn, "NATS_URL": stream_url}
    async with service.running(variables) as query, query.stream("room") as stream:
        events = await stream.until(history.head)
    assert [event.line.encode() for event in events] == [event.envelope for event in history.events]
