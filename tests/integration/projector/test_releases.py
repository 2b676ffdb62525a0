"""Two releases at work side by side, of which the next one writes other columns."""

from __future__ import annotations

import asyncio
import re
import shutil
from contextlib import suppress
from functools import partial
from pathlib import Path

import asyncpg
import httpx

from deploy.local.ports import free_port
from tests.integration.projector.commands import command
from tests.integration.projector.history import RoomHistory, publish, store
from tests.integration.projector.load import Load, applied_by_active
from tests.integration.projector.workers import Workers, applied, feed_matches, owners, running
from tests.support.servers import REPOSITORY, MigratedDatabases

_COPIED = '"last_event_id", "stream_seq"),\n        ),\n        (("steps_note", "noted"),),'
_EDITS = {
    "projections/runs.py": [("    schema = 1", "    schema = 2")],
    "schema/runs.sql": [("    tags text[] not null,", "    steps_note text,\n    tags text[] not null,")],
    "sql/runs_insert.sql": [
        ("last_event_id, stream_seq\n    )\n    select", "last_event_id, stream_seq, steps_note\n    )\n    select"),
        ("x.last_event_id::uuid, x.stream_seq", "x.last_event_id::uuid, x.stream_seq, 'noted'"),
    ],
    "sql/runs_update.sql": [("        status = coalesce", "        steps_note = 'noted',\n        status = coalesce")],
    "copying.py": [
        ('"last_event_id", "stream_seq"),\n        ),\n    ),\n    "steps', f'{_COPIED}\n    ),\n    "steps')
    ],
}
"""Of the next release: a column in the middle of proj_runs, which statements that fit the tables of before lack."""


def next_release(folder: Path) -> Path:
    for package in ("services", "shared"):
        shutil.copytree(REPOSITORY / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
    for name, edits in _EDITS.items():
        path = folder / "services" / "projector" / name
        text = path.read_text()
        for before, after in edits:
            assert text.count(before) == 1, f"{name}: {before}"
            text = text.replace(before, after)
        path.write_text(text)
    return folder


async def test_the_next_release_takes_over_a_projection_beside_the_one_before(
    event_store_dsn: str, projection_dsn: str, stream_url: str, tmp_path: Path
) -> None:
    release = next_release(tmp_path / "release")
    old = partial(command, event_store=event_store_dsn, projections=projection_dsn, nats=stream_url)
    new = partial(old, release=release)
    histories = [RoomHistory(f"room-{number}") for number in range(20)]
    connection = await asyncpg.connect(projection_dsn)
    await connection.execute(
        "drop role if exists watcher; create role watcher; grant select on proj_runs, proj_steps to watcher"
    )
    with running(event_store_dsn, projection_dsn, stream_url, tmp_path, 1) as workers:
        workers.start(release)
        events = [event for history in histories for event in history.run()]
        await store(event_store_dsn, events)
        await publish(stream_url, events)
        await applied(projection_dsn, histories)
        # Prepared once, and running before and after the switch.
        prepared = await connection.prepare("select run_id, status, stream_seq from proj_runs order by run_id limit 1")
        row = await prepared.fetchrow()
        status, output = await new("verify")
        assert (status, "runs, which is read, has tables of schema 1" in output) == (2, True), output

        load = Load(histories, event_store_dsn, projection_dsn, stream_url)
        try:
            status, output = await new("rebuild", "runs")
        finally:
            await load.stop()
        assert status == 0, output
        assert "switched to runs@2; runs is kept" in output
        assert load.reads > 10
        assert await prepared.fetchrow() == row
        # A worker puts down what is not read any more within about a second.
        async with asyncio.timeout(10):
            while workers.log().count("version_put_down") < 1:
                await asyncio.sleep(0.05)
        stood_at = await connection.fetchval("select sum(applied_seq) from proj_rooms where projection = 'runs'")

        # The release before has nothing of it left, and says so; both go on with the other projection.
        events = [event for history in histories for event in history.run(steps=3)]
        await store(event_store_dsn, events)
        await publish(stream_url, events)
        await applied_by_active(projection_dsn, histories)
        await feed_matches(projection_dsn, histories)
        assert stood_at == await connection.fetchval(
            "select sum(applied_seq) from proj_rooms where projection = 'runs'"
        )
        found = await owners(projection_dsn)
        assert (len(found["runs@2"]), len(found["room_feed"])) == (1, 2)
        status, output = await old("verify")
        assert (status, "runs@2, which is read, has tables of schema 2" in output) == (2, True), output
        status, output = await new("verify")
        assert status == 0, output
        notes = await connection.fetch("select distinct steps_note from proj_runs")
        assert [row["steps_note"] for row in notes] == ["noted"]
        for view in ("proj_runs", "proj_steps"):
            assert await connection.fetchval("select has_table_privilege('watcher', $1, 'select')", view)

        # Only the release that made it can bring the version of before back.
        status, output = await new("rebuild", "runs", "--version", "1")
        assert (status, "runs has tables of schema 1" in output) == (1, True), output
        status, output = await old("rebuild", "runs", "--version", "1")
        assert status == 0, output
        assert "switched to runs; runs@2 is kept" in output
    log = workers.log()
    assert "version_left_to_another_release" in log
    assert "Traceback" not in log
    await connection.execute("drop owned by watcher; drop role watcher")
    await connection.close()


async def test_a_version_that_nobody_runs_shows_at_whoever_is_alive(
    event_store_dsn: str, migrated_databases: MigratedDatabases, stream_url: str, tmp_path: Path
) -> None:
    projection_dsn, port = migrated_databases.copy("projections"), free_port()
    connection = await asyncpg.connect(projection_dsn)
    workers = Workers(event_store_dsn, projection_dsn, stream_url, tmp_path)
    try:
        workers.start(PROJECTOR_PORT=str(port))
        await unheld(port, runs=0, room_feed=0)
        await connection.execute("update projector_versions set schema = 2 where name = 'runs'")
        await unheld(port, runs=32, room_feed=0)
        await connection.execute("alter table projector_versions rename to away")
        await unheld(port)
        await connection.execute("alter table away rename to projector_versions")
        await connection.execute("update projector_versions set schema = 1 where name = 'runs'")
        await unheld(port, runs=0, room_feed=0)
    finally:
        workers.end()
        await connection.close()


async def unheld(port: int, **expected: int) -> None:
    """Waits until the worker says so of the versions that are read."""
    found: dict[str, int] | None = None
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False) as http:
        try:
            async with asyncio.timeout(20):
                while found != expected:
                    await asyncio.sleep(0.1)
                    with suppress(httpx.TransportError):
                        said = (await http.get("/metrics")).text
                        lines = re.findall(
                            r'^runroom_projector_unheld_partitions{projection="(\w+)"} (\d+)', said, re.MULTILINE
                        )
                        found = {name: int(number) for name, number in lines}
        except TimeoutError:
            raise AssertionError(f"{found} instead of {expected}") from None
