"""Events that cannot be applied: parked, kept through takeovers, retried and skipped by command."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import urllib.request
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

import asyncpg
import pytest

from deploy.local.ports import free_port
from shared.contracts.subjects import PARTITIONS, partition_of
from tests.integration.projector.commands import command
from tests.integration.projector.history import RoomHistory, publish, store
from tests.integration.projector.workers import Workers, applied
from tests.support.servers import REPOSITORY, as_role, as_service

Run = Callable[..., Awaitable[tuple[int, str]]]


@pytest.fixture
def run(event_store_dsn: str, projection_dsn: str, stream_url: str) -> Run:
    return partial(command, event_store=event_store_dsn, projections=projection_dsn, nats=stream_url)


async def until_parked(dsn: str, expected: dict[str, tuple[int, int]], workspace_id: str = "ws") -> None:
    """Waits until exactly these rooms of a workspace are parked: room → (parked seq, applied seq)."""
    connection = await asyncpg.connect(dsn)
    found: dict[str, tuple[int, int]] = {}
    try:
        async with asyncio.timeout(20):
            while found != expected:
                rows = await connection.fetch(
                    "select room_id, stream_seq, applied_seq from projector_parked join proj_rooms"
                    " using (projection, workspace_id, room_id) where skipped_at is null and projection = 'runs'"
                    " and workspace_id = $1",
                    workspace_id,
                )
                found = {row["room_id"]: (row["stream_seq"], row["applied_seq"]) for row in rows}
                await asyncio.sleep(0.05)
    except TimeoutError:
        raise AssertionError(f"{found} instead of {expected}") from None
    finally:
        await connection.close()


async def heal(dsn: str, room: str, seq: int, envelope: bytes) -> None:
    connection = await asyncpg.connect(dsn)
    await connection.execute("set session_replication_role = replica")
    await connection.execute(
        "update events set envelope = $1 where room_id = $2 and stream_seq = $3", envelope, room, seq
    )
    await connection.close()


def get(port: int, path: str) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
        return answer.read().decode()


async def test_parked_events_outlive_their_worker_and_are_settled_by_command(
    event_store_dsn: str, projection_dsn: str, stream_url: str, tmp_path: Path, run: Run
) -> None:
    unreadable, unwritable, orphan, well = (
        RoomHistory(name) for name in ("unreadable", "unwritable", "orphan", "well")
    )
    for history in (unreadable, unwritable, well):
        history.run(steps=0)
    unreadable.garbage(b'{"event_type": "run.created", "event_version": 99, "secret": "s3cret"}')
    unwritable.created("run_nul", title="a\x00b")
    orphan.started("run_never_created")
    histories = [unreadable, unwritable, orphan, well]
    for history in histories:
        history.run(steps=1)
    events = [event for history in histories for event in history.events]
    await store(event_store_dsn, events)
    await publish(stream_url, events)
    workers = Workers(event_store_dsn, projection_dsn, stream_url, tmp_path)
    try:
        first = workers.start()
        await applied(projection_dsn, [well])
        all_parked = {"unreadable": (4, 3), "unwritable": (4, 3)}
        connection = await asyncpg.connect(projection_dsn)
        async with asyncio.timeout(20):
            while await connection.fetchval("select count(*) from projector_parked") < 3:
                await asyncio.sleep(0.05)
        await connection.execute("insert into proj_rooms values ('runs', 'ws', 'orphan', 0, 0) on conflict do nothing")
        all_parked["orphan"] = (1, 0)
        await until_parked(projection_dsn, all_parked)
        # The checkpoint has gone past them: nothing but the table remembers.
        first.kill()
        first.wait()
        port = free_port()
        workers.start(PROJECTOR_PORT=str(port))
        async with asyncio.timeout(30):
            while '"3 parked' not in await asyncio.to_thread(_get_or_nothing, port, "/readyz"):
                await asyncio.sleep(0.1)
        ready = json.loads(await asyncio.to_thread(get, port, "/readyz"))
        assert "runs: ws/unreadable at 4 (UnknownEventError)" in ready["dependencies"]["parked"]["detail"]
        metrics = await asyncio.to_thread(get, port, "/metrics")
        assert 'runroom_projector_parked_events{projection="runs"} 3.0' in metrics

        status, output = await run("parked", "list")
        assert status == 0
        assert "runs  ws/unreadable  event 4  parked  UnknownEventError" in output
        assert output.endswith("3 parked\n")
        _, output = await run("parked", "show", "runs", "ws/unreadable")
        assert "no event run.created version 99 is known here" in output
        assert "waiting   4 events behind it" in output
        assert unreadable.events[3].event_id in output
        assert "s3cret" not in output
        _, output = await run("parked", "show", "ws/unreadable", "--payload")
        assert "s3cret" in output
        assert (await run("parked", "skip", "runs"))[0] == 2

        status, output = await run("parked", "retry", "runs", "ws/unreadable")
        assert (status, "still cannot be applied: UnknownEventError" in output) == (1, True), output
        await heal(
            event_store_dsn,
            "unreadable",
            4,
            RoomHistory("unreadable").created("run_healed").envelope.replace(b'"stream_seq":1,', b'"stream_seq":4,'),
        )
        status, output = await run("parked", "retry", "runs", "ws/unreadable")
        assert (status, output) == (0, "ws/unreadable  event 4  applied; the room goes on\n")
        await applied(projection_dsn, [unreadable], seconds=5)
        status, output = await run("parked", "skip", "runs", "ws/unwritable")
        assert (status, output) == (0, "ws/unwritable  event 4  skipped; the room goes on\n")
        await applied(projection_dsn, [unwritable], seconds=5)
        status, output = await run("parked", "skip", "runs", "ws/orphan")
        assert status == 0
        await applied(projection_dsn, histories, seconds=5)
        rows = await connection.fetch("select run_id, status from proj_runs where room_id = 'unwritable' order by 1")
        assert [row["status"] for row in rows] == ["succeeded", "succeeded"]
        assert await connection.fetchval("select count(*) from projector_parked where skipped_at is not null") == 2
        status, output = await run("parked", "list")
        assert "runs  ws/unwritable  event 4  skipped  CharacterNotInRepertoireError" in output
        assert output.endswith("0 parked\n")
        status, output = await run("parked", "retry", "runs")
        assert (status, output) == (1, "nothing is parked there\n")
        # A room that was skipped in is as it should be.
        await heal(event_store_dsn, "unreadable", 4, unreadable.events[3].envelope)
        _, output = await run("verify")
        assert "ws/unwritable" not in output
        # But for a run that the store has, and that no event of its has created.
        assert [line for line in output.splitlines() if "ws/orphan" in line] == [
            "differs  ws/orphan  store: the state of run_never_created is not what its events say"
        ]
        await connection.close()
    finally:
        workers.end()


async def test_a_wish_nobody_takes_up_is_said_to_be_waiting(
    event_store_dsn: str, projection_dsn: str, run: Run
) -> None:
    connection = await asyncpg.connect(projection_dsn)
    await connection.execute(
        "insert into projector_parked (projection, workspace_id, room_id, stream_seq, partition, error)"
        " values ('runs', 'ws', 'nobody', 1, 0, 'Error: x')"
    )
    status, output = await run("parked", "skip", "runs", "ws/nobody")
    assert (status, output) == (1, "ws/nobody  event 1  no worker has seen to it yet; it stays wanted\n")
    assert await connection.fetchval("select wanted from projector_parked where room_id = 'nobody'") == "skip"
    await connection.close()


async def test_wishes_of_which_nothing_can_come_end_and_are_said_once(
    event_store_dsn: str, projection_dsn: str, stream_url: str, tmp_path: Path, run: Run
) -> None:
    room = RoomHistory("real", "ws_idle")
    room.run(steps=0)
    stuck = RoomHistory("stuck", "ws_idle")
    stuck.started("run_never_created_either")
    events = [*room.events, *stuck.events]
    await store(event_store_dsn, events)
    await publish(stream_url, events)
    rows = [("real", 1, 0), ("real", 900, 0), ("nowhere", 1, 0), ("stuck", 1, 1)]
    connection = await asyncpg.connect(projection_dsn)
    workers = Workers(event_store_dsn, projection_dsn, stream_url, tmp_path)
    try:
        workers.start()
        await applied(projection_dsn, [room])
        await until_parked_seqs(connection, {("stuck", 1)})
        for name, seq, elsewhere in rows:
            await connection.execute(
                "insert into projector_parked (projection, workspace_id, room_id, stream_seq, partition, error)"
                " values ('room_feed', 'ws_idle', $1, $2, $3, 'Error: x')",
                *(name, seq, (partition_of("ws_idle", name) + elsewhere) % PARTITIONS),
            )
        status, output = await run("parked", "retry", "room_feed")
        assert status == 1
        assert sorted(line for line in output.splitlines() if line.startswith("ws_idle/")) == [
            "ws_idle/nowhere  event 1  taken out: it is not in the event store, or not where it was parked",
            "ws_idle/real  event 1  applied; the room goes on",
            "ws_idle/real  event 900  taken out: it is not in the event store, or not where it was parked",
            "ws_idle/stuck  event 1  applied; the room goes on",
        ]
        await until_parked_seqs(connection, {("stuck", 1)})
        # One that stays wanted, as it cannot be taken out, is said once: not again beside the next.
        await connection.execute(
            "create function keep() returns trigger language plpgsql as $$ begin return null; end $$;"
            "create trigger keep before delete on projector_parked for each row execute function keep()"
        )
        for name in ("gone", "gone_too"):
            await connection.execute(
                "insert into projector_parked (projection, workspace_id, room_id, stream_seq, partition, error, wanted)"
                " values ('runs', 'ws_idle', $1, 1, $2, 'Error: x', 'skip')",
                *(name, partition_of("ws_idle", name)),
            )
            async with asyncio.timeout(10):
                while f'"{name}"' not in workers.log():
                    await asyncio.sleep(0.05)
        assert workers.log().count('"gone"') == 1
    finally:
        workers.end()  # first: it tries what is parked, and parks it again
        await connection.execute(
            "drop trigger if exists keep on projector_parked; drop function if exists keep;"
            "delete from projector_parked where workspace_id = 'ws_idle'"
        )
        await connection.close()


async def test_a_reader_that_has_seen_enough_is_no_outage(
    event_store_dsn: str, projection_dsn: str, stream_url: str
) -> None:
    for arguments, well in (("parked", "list"), 0), (("verify",), None):
        reader, writer = os.pipe()
        os.close(reader)
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "services.projector", *arguments),
            cwd=REPOSITORY,
            env={
                "PATH": os.environ["PATH"],
                **as_service(
                    "projector", nats=stream_url, EVENT_STORE_DSN=event_store_dsn, PROJECTION_DSN=projection_dsn
                ),
            },
            stdout=writer,
            stderr=asyncio.subprocess.PIPE,
        )
        os.close(writer)
        _, complaints = await asyncio.wait_for(process.communicate(), 60)
        assert complaints == b""
        assert process.returncode == well if well is not None else process.returncode in (0, 1)


ESCAPES = "\x1b]0;owned\x07\x9b2J\r\n\u202e"
ESCAPED = "\\x1b]0;owned\\x07\\x9b2J\\r\\n\\u202e"


async def test_nothing_of_a_row_is_obeyed_by_a_terminal(event_store_dsn: str, projection_dsn: str, run: Run) -> None:
    room = RoomHistory("escapes", "ws_escapes")
    room.garbage('{"title": "\x1b[2J\x9b2J\u202e"}'.encode())
    await store(event_store_dsn, room.events)
    connection = await asyncpg.connect(projection_dsn)
    await connection.executemany(
        "insert into projector_parked (projection, workspace_id, room_id, stream_seq, partition, error)"
        " values ('runs', $1, $2, 1, 0, $3)",
        [("ws_escapes", "escapes", ESCAPES), (ESCAPES, ESCAPES, ESCAPES)],
    )
    listed = (await run("parked", "list"))[1]
    shown = (await run("parked", "show", "ws_escapes/escapes", "--payload"))[1]
    # Everything that is not to be seen but the ends of lines.
    for output in (listed, shown):
        assert all(line.isprintable() for line in output.split("\n"))
    assert f"runs  {ESCAPED}/{ESCAPED}  event 1  parked  {ESCAPED}\n" in listed
    assert f"error     {ESCAPED}\n" in shown
    assert '{"title": "\\x1b[2J\\x9b2J\\u202e"}' in shown
    await connection.execute("delete from projector_parked where error = $1", ESCAPES)
    await connection.close()


async def until_parked_seqs(connection: asyncpg.Connection, expected: set[tuple[str, int]]) -> None:
    found: set[tuple[str, int]] = set()
    async with asyncio.timeout(20):
        while found != expected:
            rows = await connection.fetch(
                "select room_id, stream_seq from projector_parked where workspace_id = 'ws_idle'"
            )
            found = {(row["room_id"], row["stream_seq"]) for row in rows}
            await asyncio.sleep(0.05)


TIMES = {
    "no_more_time": "9999-12-31T23:59:59.999999-14:00",
    "before_all": "0044-03-15T00:00:00.000000Z BC",
    "after_all": "10000-01-01T00:00:00.000000Z",
    "endless": "-infinity",
    "whenever_it_is_read": "now",
}


def named(room: RoomHistory, **members: str) -> None:
    event = room.created(f"run_{room.key.room_id}")
    room.events[-1] = event._replace(envelope=json.dumps(json.loads(event.envelope) | members).encode())


LONG = "x" * 129
DEEP = b'{"event_type":"run.created","event_version":1,"data":' + b"[" * 100_000 + b"]" * 100_000 + b"}"
POISON: dict[str, Callable[[RoomHistory], object]] = {
    "deep": lambda room: room.garbage(DEEP),
    "tags": lambda room: room.created("run_tags", tags=[str(number) for number in range(100_000)]),
    "one_tag_too_many": lambda room: room.created("run_101_tags", tags=[str(number) for number in range(101)]),
    "long_tag": lambda room: room.created("run_long_tag", tags=["x" * 257]),
    "empty_tag": lambda room: room.created("run_empty_tag", tags=[""]),
    "long_correlation": partial(named, correlation_id=LONG),
    "long_thread": partial(named, thread_id=LONG),
    "empty_correlation": partial(named, correlation_id=""),
    **{name: partial(named, occurred_at=text) for name, text in TIMES.items()},
}
"""What a service never writes, and somebody with its password may."""


async def test_an_event_that_no_service_writes_stops_its_room_alone(
    event_store_dsn: str, projection_dsn: str, stream_url: str, tmp_path: Path
) -> None:
    rooms = [RoomHistory(name, "ws_poison") for name in POISON]
    for room, spoil in zip(rooms, POISON.values(), strict=True):
        room.run(steps=0)
        spoil(room)
        room.run(steps=0)
    events = [event for room in rooms for event in room.events]
    await store(event_store_dsn, events)
    await publish(stream_url, events)
    workers = Workers(event_store_dsn, projection_dsn, stream_url, tmp_path)
    try:
        workers.start()
        await applied(projection_dsn, rooms, projections=("room_feed",))
        await until_parked(projection_dsn, dict.fromkeys(POISON, (4, 3)), "ws_poison")
        after = RoomHistory("after", "ws_poison")
        after.run()
        await store(event_store_dsn, after.events)
        await publish(stream_url, after.events)
        await applied(projection_dsn, [after])
        assert "task_crashed" not in workers.log()
    finally:
        workers.end()


@pytest.mark.parametrize("attempts", [2**31 - 1, -(2**31)])
async def test_attempts_that_somebody_wrote_end_no_projector(
    event_store_dsn: str, projection_dsn: str, stream_url: str, tmp_path: Path, run: Run, attempts: int
) -> None:
    room = RoomHistory("counted", f"ws_counted{attempts}")
    room.run(steps=0)
    room.garbage(b"{}")
    await store(event_store_dsn, room.events)
    await publish(stream_url, room.events)
    workers = Workers(event_store_dsn, projection_dsn, stream_url, tmp_path)
    thief = await asyncpg.connect(as_role(projection_dsn, "runroom_projector"))
    try:
        workers.start()
        await until_parked(projection_dsn, {"counted": (4, 3)}, room.key.workspace_id)
        wish = "update projector_parked set attempts = $1, wanted = 'retry' where workspace_id = $2"
        await thief.execute(wish, attempts, room.key.workspace_id)
        async with asyncio.timeout(20):
            while await thief.fetchval("select count(*) from projector_parked where wanted is not null"):
                assert workers.running == [True], workers.log()
                await asyncio.sleep(0.05)
        status, output = await run("parked", "retry", "runs", f"{room.key.workspace_id}/counted")
        assert (status, "still cannot be applied" in output) == (1, True), output
        assert workers.running == [True]
    finally:
        workers.end()
        await thief.close()


async def test_what_cannot_be_parked_stops_its_room_alone(
    event_store_dsn: str, projection_dsn: str, stream_url: str, tmp_path: Path
) -> None:
    stuck = RoomHistory("not-parked", "ws_stuck")
    stuck.run(steps=0)
    stuck.garbage(b"{}")
    beside = next(
        RoomHistory(name, "ws_stuck")
        for name in (f"beside{number}" for number in range(1000))
        if partition_of("ws_stuck", name) == partition_of(*stuck.key)
    )
    beside.run()
    owner = await asyncpg.connect(as_role(projection_dsn, "runroom_migrate"))
    workers = Workers(event_store_dsn, projection_dsn, stream_url, tmp_path)
    try:
        await owner.execute("alter table projector_parked add constraint odd check (room_id <> 'not-parked')")
        await store(event_store_dsn, stuck.events + beside.events)
        await publish(stream_url, stuck.events)
        workers.start()
        async with asyncio.timeout(20):
            while "events_not_parked" not in workers.log():
                await asyncio.sleep(0.05)
        await publish(stream_url, beside.events)
        await applied(projection_dsn, [beside])
        await owner.execute("alter table projector_parked drop constraint odd")
        await until_parked(projection_dsn, {"not-parked": (4, 3)}, "ws_stuck")
        assert "task_crashed" not in workers.log()
    finally:
        workers.end()
        await owner.execute("alter table projector_parked drop constraint if exists odd")
        await owner.close()


def _get_or_nothing(port: int, path: str) -> str:
    try:
        return get(port, path)
    except OSError:
        return ""
