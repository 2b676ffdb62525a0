"""Commands whose PostgreSQL says nothing more."""

from __future__ import annotations

import asyncio
import signal
from urllib.parse import urlsplit

import pytest

from tests.integration.privileges import connected
from tests.integration.projector.commands import start
from tests.integration.projector.workers import until_waiting
from tests.support.proxy import running_proxy, through
from tests.support.servers import MigratedDatabases

_PARKED = """
import sys
from services.projector import parked_command
from services.projector.__main__ import main
parked_command.ANSWER_SECONDS = {seconds}
sys.exit(main(["parked", "list"]))
"""


@pytest.mark.parametrize("ctrl_c", [False, True], ids=["by itself", "by Ctrl-C"])
async def test_a_command_does_not_wait_for_ever(migrated_databases: MigratedDatabases, *, ctrl_c: bool) -> None:
    dsn = migrated_databases.copy("projections")
    async with running_proxy(urlsplit(dsn).port or 0) as proxy, connected(dsn) as owner, owner.transaction():
        await owner.execute("lock table projector_parked in access exclusive mode")
        script = _PARKED.format(seconds=60 if ctrl_c else 3)
        process = await start("-c", script, event_store=dsn, projections=through(proxy, dsn))
        try:
            await until_waiting(owner, "runroom-projector")
            proxy.hold()
            if ctrl_c:
                process.send_signal(signal.SIGINT)
            output, _ = await asyncio.wait_for(process.communicate(), 15)
            assert process.returncode == (-signal.SIGINT if ctrl_c else 2)
            assert output.decode() == ("" if ctrl_c else "the database does not answer: TimeoutError: \n")
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()


@pytest.mark.parametrize("ctrl_c", [False, True], ids=["by itself", "by Ctrl-C"])
async def test_a_command_that_gave_up_leaves_no_statement_behind(
    migrated_databases: MigratedDatabases, *, ctrl_c: bool
) -> None:
    """It would go on, and keep locked what workers change."""
    dsn = migrated_databases.copy("projections")
    async with connected(dsn) as owner, owner.transaction():
        await owner.execute("lock table projector_parked in access exclusive mode")
        script = _PARKED.format(seconds=60 if ctrl_c else 3)
        process = await start("-c", script, event_store=dsn, projections=dsn)
        try:
            await until_waiting(owner, "runroom-projector")
            if ctrl_c:
                process.send_signal(signal.SIGINT)
            await asyncio.wait_for(process.communicate(), 15)
            await until_waiting(owner, "runroom-projector", waiting=False)
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()


_IN_PORTIONS = """
import sys
from services.projector import parked_command
from services.projector.__main__ import main
parked_command.ANSWER_SECONDS = 4
parked_command.PATIENCE_SECONDS = 0
parked_command.PORTION = {portion}
parked_command.MOST_WATCHED = 2
sys.exit(main({words}))
"""
_PARK = """
insert into projector_parked (projection, workspace_id, room_id, stream_seq, partition, error, skipped_at)
select $1, 'ws', $2, i, 0, 'Error: x', case when $4 then now() end from generate_series(1, $3::integer) as i
"""


async def test_many_events_are_wanted_in_portions(migrated_databases: MigratedDatabases) -> None:
    """As one statement it would take longer than the command waits for, and be taken back each time."""
    dsn = migrated_databases.copy("projections")
    async with connected(dsn) as owner:
        for projection, room, rows, skipped in (
            ("room_feed", "other", 10, False),
            ("runs", "flooded", 8000, False),
            ("runs", "skipped", 3, True),
        ):
            await owner.execute(_PARK, projection, room, rows, skipped)
        await owner.execute(
            "create function pause() returns trigger language plpgsql as"
            " $$ begin perform pg_sleep(0.7); return new; end $$;"
            "create trigger pause before update on projector_parked for each row when (new.stream_seq % 1000 = 0)"
            " execute function pause()"
        )
        status, output = await typed(dsn, 1000, "parked", "retry", "runs")
        assert (status, output.splitlines()) == (
            1,
            [
                "ws/flooded  event 1  no worker has seen to it yet; it stays wanted",
                "ws/flooded  event 2  no worker has seen to it yet; it stays wanted",
                "7998 more are wanted: see what becomes of them with list",
            ],
        )
        wanted = "select projection, room_id, count(*) from projector_parked where wanted = 'retry' group by 1, 2"
        assert [tuple(row) for row in await owner.fetch(wanted)] == [("runs", "flooded", 8000)]


@pytest.mark.parametrize(
    ("words", "rooms"),
    [
        ((), ["feed/b", "feed/c", "runs/a", "runs/c", "feed/a skipped", "runs/b skipped"]),
        (("runs",), ["runs/a", "runs/c", "runs/b skipped"]),
        (("ws/c",), ["feed/c", "runs/c"]),
        (("runs", "ws/b"), ["runs/b skipped"]),
    ],
    ids=["everything", "a projection", "a room", "a room of a projection"],
)
@pytest.mark.parametrize("portion", [1, 2, 1000])
async def test_a_list_that_is_read_in_portions_has_everything_once_and_in_order(
    migrated_databases: MigratedDatabases, portion: int, words: tuple[str, ...], rooms: list[str]
) -> None:
    dsn = migrated_databases.copy("projections")
    async with connected(dsn) as owner:
        for place in ("feed/a skipped", "feed/b", "feed/c", "runs/a", "runs/b skipped", "runs/c"):
            name, state = (*place.split(), "")[:2]
            projection, room = name.split("/")
            await owner.execute(_PARK, projection.replace("feed", "room_feed"), room, 2, bool(state))
    status, output = await typed(dsn, portion, "parked", "list", *words)
    expected = [
        f"{place[:4].replace('feed', 'room_feed')}  ws/{place[5]}  event {seq}  {place[7:] or 'parked'}  Error"
        for place in rooms
        for seq in (1, 2)
    ]
    count = 2 * sum("skipped" not in place for place in rooms)
    assert (status, output.splitlines()) == (0, [*expected, f"{count} parked"])


async def typed(dsn: str, portion: int, *words: str) -> tuple[int, str]:
    """The exit status of the command and what it said."""
    script = _IN_PORTIONS.format(portion=portion, words=list(words))
    process = await start("-c", script, event_store=dsn, projections=dsn)
    output, _ = await asyncio.wait_for(process.communicate(), 60)
    return process.returncode or 0, output.decode()
