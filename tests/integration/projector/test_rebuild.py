"""Projections built anew beside the old ones, while they are written to and read."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial

import asyncpg
import pytest

from services.projector.projections import PROJECTIONS
from services.projector.rebuild.tables import VIEWS
from shared.postgres import load_queries
from tests.integration.privileges import check_rights
from tests.integration.projector.commands import command, start
from tests.integration.projector.history import RoomHistory, publish, store
from tests.integration.projector.load import Load, applied_by_active
from tests.integration.projector.workers import Workers, applied, dump, feed_matches, running
from tests.support.servers import REPOSITORY

Run = Callable[..., Awaitable[tuple[int, str]]]
CONTENTS = ("runs", "steps", "run_tags", "room_events")


@pytest.fixture(scope="module")
def workers(event_store_dsn: str, projection_dsn: str, stream_url: str, tmp_path_factory: pytest.TempPathFactory):
    with running(event_store_dsn, projection_dsn, stream_url, tmp_path_factory.mktemp("logs"), 2) as workers:
        yield workers


@pytest.fixture
def run(event_store_dsn: str, projection_dsn: str, stream_url: str) -> Run:
    return partial(command, event_store=event_store_dsn, projections=projection_dsn, nats=stream_url)


@pytest.fixture(scope="module")
async def histories(workers: Workers, event_store_dsn: str, stream_url: str) -> list[RoomHistory]:
    histories = [RoomHistory(f"room-{number}") for number in range(40)]
    for number, history in enumerate(histories):
        for turn in range(5):
            history.run(steps=number % 4, end=("completed", "failed", None)[turn % 3])
    events = [event for history in histories for event in history.events]
    await store(event_store_dsn, events)
    await publish(stream_url, events)
    await applied(workers.projection_dsn, histories)
    return histories


async def views(dsn: str) -> str:
    connection = await asyncpg.connect(dsn)
    try:
        return await connection.fetchval(
            "select string_agg(definition, ';' order by viewname) from pg_views where schemaname = 'public'"
        )
    finally:
        await connection.close()


@pytest.mark.parametrize("projection", ["runs", "room_feed"])
async def test_a_rebuild_beside_live_traffic_switches_without_going_back(
    workers: Workers,
    histories: list[RoomHistory],
    run: Run,
    event_store_dsn: str,
    projection_dsn: str,
    stream_url: str,
    projection: str,
) -> None:
    load = Load(histories, event_store_dsn, projection_dsn, stream_url)
    try:
        status, output = await run("rebuild", projection)
    finally:
        await load.stop()
    assert status == 0, output
    assert f"switched to {projection}@2; {projection} is kept" in output
    assert load.reads > 10
    assert f"{VIEWS[projection][0]}_v2" in await views(projection_dsn)
    await applied_by_active(projection_dsn, histories)
    await feed_matches(projection_dsn, histories)
    assert f"{VIEWS[projection][0]}_v2" in await check_rights("projections", projection_dsn)
    status, output = await run("verify")
    assert status == 0, output
    rows = await dump(projection_dsn)
    status, output = await run("rebuild", projection, "--drop-old")
    assert (status, output) == (0, f"dropped {projection}\n")
    after = await dump(projection_dsn)
    assert {name: rows[name] for name in CONTENTS} == {name: after[name] for name in CONTENTS}
    assert len(after["run_tags"]) == 2 * len(after["runs"])
    # The workers go on with it.
    events = histories[0].run()
    await store(event_store_dsn, events)
    await publish(stream_url, events)
    await applied_by_active(projection_dsn, histories)


WRONG_RUNS = """
from services.projector.projections import runs
right = runs.evolve
def evolve(change, event):
    change = right(change, event)
    if change.status == "failed":
        change.status = "succeeded"
    return change
runs.evolve = evolve
"""
WRONG_STEPS = """
import msgspec
from services.projector.projections import runs
right = runs.step_row
runs.step_row = lambda event: msgspec.structs.replace(right(event), title="another")
"""
WRONG_FEED = """
from services.projector.projections import room_feed
right = room_feed._Changes.add
def add(self, room):
    events = [event._replace(envelope=event.envelope + b" ") for event in room.events]
    right(self, room._replace(events=events))
room_feed._Changes.add = add
"""


@pytest.mark.parametrize(
    ("wrong", "projection", "view", "differs"),
    [
        (WRONG_RUNS, "runs", "proj_runs", "differs in status"),
        (WRONG_STEPS, "runs", "proj_steps", "differs in title"),
        (WRONG_FEED, "room_feed", "proj_room_events", "has other bytes than the one stored"),
    ],
    ids=["runs", "steps", "room_feed"],
)
async def test_a_wrong_projection_is_found_and_not_switched_to(
    workers: Workers,
    histories: list[RoomHistory],
    run: Run,
    event_store_dsn: str,
    projection_dsn: str,
    stream_url: str,
    wrong: str,
    projection: str,
    view: str,
    differs: str,
) -> None:
    before = await views(projection_dsn)
    code = f"""{wrong}
import sys
from services.projector.__main__ import main
sys.exit(main(["rebuild", "{projection}", "--jobs", "1"]))
"""
    status, output = await python(code, event_store_dsn, projection_dsn, stream_url)
    assert status == 1, output
    assert f"{view}: other contents than before" in output
    assert f"not switched: {projection}@" in output
    assert await views(projection_dsn) == before
    # The right fold does not agree with what was filled either, and what is wrong can be thrown away.
    status, output = await run("rebuild", projection, "--changed")
    assert status == 1, output
    assert differs in output
    assert (await run("rebuild", projection, "--drop-old"))[0] == 0
    assert await views(projection_dsn) == before


async def test_a_rebuild_that_was_killed_goes_on_where_it_was(
    workers: Workers, histories: list[RoomHistory], run: Run, event_store_dsn: str, projection_dsn: str, stream_url: str
) -> None:
    slow = """
import asyncio, sys
from services.projector.rebuild import jobs
from services.projector.verify import rooms
rooms.PAGE_ROOMS = 2
one = jobs.fill_pages
async def slowly(*arguments):
    await asyncio.sleep(0.2)
    return await one(*arguments)
jobs.fill_pages = slowly
from services.projector.__main__ import main
sys.exit(main(["rebuild", "room_feed", "--jobs", "1"]))
"""
    process = await start("-c", slow, event_store=event_store_dsn, projections=projection_dsn, nats=stream_url)
    connection = await asyncpg.connect(projection_dsn)
    filled = """select coalesce(sum(applied_seq), 0) from proj_rooms
        join projector_versions as v on v.name = proj_rooms.projection where v.state = 'building'"""
    async with asyncio.timeout(20):
        while not await connection.fetchval(filled):
            await asyncio.sleep(0.05)
    process.kill()
    await process.wait()
    done = await connection.fetchval(filled)
    await connection.close()
    status, output = await run("rebuild", "room_feed")
    assert status == 0, output
    assert 0 < done < sum(history.head for history in histories)
    assert "which is building" in output
    await feed_matches(projection_dsn, histories)
    assert (await run("verify"))[0] == 0


async def test_a_version_that_was_read_before_is_brought_up_to_now_and_read_again(
    workers: Workers, histories: list[RoomHistory], run: Run, event_store_dsn: str, projection_dsn: str, stream_url: str
) -> None:
    assert (await run("rebuild", "room_feed", "--drop-old"))[0] == 0
    connection = await asyncpg.connect(projection_dsn)
    before = await active(connection, "room_feed")
    number = before.partition("@")[2] or "1"
    status, output = await run("rebuild", "room_feed")
    assert status == 0, output
    after = await active(connection, "room_feed")
    assert after != before
    events = [event for history in histories for event in history.run()]
    await store(event_store_dsn, events)
    await publish(stream_url, events)
    await applied_by_active(projection_dsn, histories)

    status, output = await run("rebuild", "room_feed", "--version", "77")
    there = f"{after.partition('@')[2]} (active), {number} (retired)"
    assert (status, output) == (1, f"not switched: room_feed has no version 77, but {there}\n")

    await connection.execute("update projector_versions set schema = 7 where name = $1", before)
    status, output = await run("rebuild", "room_feed", "--version", number)
    assert (status, "tables of schema 7, and this release is for schema 1" in output) == (1, True), output
    await connection.execute("update projector_versions set schema = 1 where name = $1", before)

    load = Load(histories, event_store_dsn, projection_dsn, stream_url)
    try:
        status, output = await run("rebuild", "room_feed", "--version", number)
    finally:
        await load.stop()
    assert status == 0, output
    assert f"going on with {before}, which is retired" in output
    assert f"switched to {before}; {after} is kept" in output
    await connection.close()
    await applied_by_active(projection_dsn, histories)
    await feed_matches(projection_dsn, histories)
    status, output = await run("verify")
    assert status == 0, output


async def test_what_cannot_be_folded_is_left_to_the_workers_and_does_not_keep_a_rebuild_from_switching(
    workers: Workers, histories: list[RoomHistory], run: Run, event_store_dsn: str, projection_dsn: str, stream_url: str
) -> None:
    poisoned = RoomHistory("poisoned")
    poisoned.run()
    poisoned.created("run_nul", title="a\x00b")
    poisoned.created("run_nil", title="b\x00c")
    poisoned.run()
    await store(event_store_dsn, poisoned.events)
    await publish(stream_url, poisoned.events)
    connection = await asyncpg.connect(projection_dsn)
    async with asyncio.timeout(20):
        while not await connection.fetchval("select count(*) from projector_parked"):
            await asyncio.sleep(0.05)
    assert (await run("parked", "skip", "runs", "ws/poisoned"))[0] == 0
    status, output = await run("rebuild", "runs")
    assert status == 0, output
    assert "left to the workers: ws/poisoned" in output
    found = await connection.fetch(
        "select applied_seq from proj_applied where projection = 'runs' and room_id = 'poisoned'"
    )
    assert [row["applied_seq"] for row in found] == [6]
    # The event that was skipped is skipped again, and the next one is parked behind it, some time after the switch.
    rows: list[tuple[int, bool]] = []
    async with asyncio.timeout(20):
        while rows != [(6, False), (7, True)]:
            await asyncio.sleep(0.1)
            found = await connection.fetch(
                "select stream_seq, skipped_at is null from projector_parked where projection = $1 order by 1",
                await active(connection, "runs"),
            )
            rows = [tuple(row) for row in found]
    await connection.close()


async def active(connection: asyncpg.Connection, projection: str) -> str:
    return await connection.fetchval(
        "select name from projector_versions where projection = $1 and state = 'active'", projection
    )


async def test_the_schema_of_a_version_is_that_of_the_first(migrated_databases) -> None:
    dsn = migrated_databases.copy("projections")
    connection = await asyncpg.connect(dsn)
    schema = load_queries(REPOSITORY / "services" / "projector" / "schema")
    assert {name.removesuffix("_indexes") for name in schema} == set(PROJECTIONS)
    for projection, views_of in VIEWS.items():
        both = schema[projection] + schema.get(f"{projection}_indexes", "")
        await connection.execute(both.replace("_vN", "_v99"))
        for view in views_of:
            described = [await describe(connection, f"{view}_v{version}") for version in (1, 99)]
            assert described[0] == described[1]
    await connection.close()


async def describe(connection: asyncpg.Connection, table: str) -> list[str]:
    rows = await connection.fetch(
        """select attname || ' ' || format_type(atttypid, atttypmod) || ' ' || attnotnull || ' ' || attcollation
            || ' ' || coalesce(attstattarget, -1) as line
        from pg_attribute where attrelid = $1::text::regclass and attnum > 0
        union all select pg_get_indexdef(indexrelid) from pg_index where indrelid = $1::text::regclass
        union all select pg_get_triggerdef(oid) from pg_trigger where tgrelid = $1::text::regclass
        union all select reloptions::text from pg_class where oid = $1::text::regclass""",
        table,
    )
    version = table.rpartition("_")[2]
    return sorted((row["line"] or "").replace(f"_{version}", "") for row in rows)


async def python(code: str, event_store: str, projections: str, nats: str) -> tuple[int, str]:
    process = await start("-c", code, event_store=event_store, projections=projections, nats=nats)
    output, _ = await asyncio.wait_for(process.communicate(), 100)
    return process.returncode or 0, output.decode()
