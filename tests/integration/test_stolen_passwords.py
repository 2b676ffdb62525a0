"""With the PostgreSQL password of a command service stolen: what the manual has people type shuts the thief out, and
takes away what is in the way afterwards."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import uuid
from collections.abc import AsyncGenerator, Awaitable, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Protocol

import asyncpg
import pytest

from deploy.local import EmbeddedPostgres
from deploy.local.postgres import ROLES
from deploy.local.process import LocalError
from deploy.scram import scram_verifier
from services.command.domain.batch import Accepted, IdempotencyKey, Outcome, Request
from services.command.domain.commands import Command, CompleteRun, CreateRun, CreateStep, StartRun
from services.command.domain.decide import Caller, Refusal
from services.command.group_commit import GroupCommit, GroupCommitSettings
from services.command.ids import MintedIds
from services.command.submissions import MisnumberedRoomError
from services.projector.verify.report import Report
from services.projector.verify.rooms import Page, RoomsCheck
from shared.contracts.ids import RoomKey
from shared.contracts.times import format_time
from shared.postgres import load_queries
from tests.integration.privileges import connected
from tests.support.manual import run_typed
from tests.support.proxy import running_proxy, through
from tests.support.servers import REPOSITORY, as_role

SQL = load_queries(REPOSITORY / "services" / "command" / "sql")
SECTION = "When a credential is stolen"
SET_UP = 'psql --file=deploy/postgres/roles.sql --file=deploy/postgres/databases.sql "$server"'
CUT_OFF = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError)
CALLER = Caller("ws", "service", "api")
ROLL_BACK = 'until psql --set=ON_ERROR_STOP=1 "$EVENT_STORE_SUPERUSER_DSN"'


class Act(Protocol):
    def __call__(self, command: Command, key: str | None = None) -> Awaitable[Outcome]: ...


class Create(Protocol):
    def __call__(self, room_id: str, key: str | None = None) -> Awaitable[Outcome]: ...


async def test_a_password_is_replaced_and_the_thief_is_shut_out(fresh_postgres: EmbeddedPostgres) -> None:
    server = fresh_postgres
    stolen = server.dsn("event_store", "runroom_command")
    thief = await asyncpg.connect(stolen)
    await thief.execute("alter role runroom_command in database event_store set synchronous_commit = off")
    await thief.execute("alter role runroom_command set search_path = nowhere")
    held = asyncio.Event()
    holding = [asyncio.create_task(hold_the_role(stolen, held)) for _ in range(5)]
    await held.wait()
    await shut_out(server)
    await asyncio.gather(*holding)
    with pytest.raises((asyncpg.PostgresConnectionError, asyncpg.AdminShutdownError, asyncpg.InterfaceError)):
        await thief.execute("alter role runroom_command password 'mine'")
    with pytest.raises(asyncpg.InvalidPasswordError):
        await asyncpg.connect(stolen)
    async with connected(stolen.replace(password_of(server, "runroom_command"), "a-new-one")) as service:
        assert await service.fetchval("show synchronous_commit") == "on"
        assert await service.fetchval("show search_path") == '"$user", public'
    server.stop()
    server.start()


async def test_the_thief_is_not_shut_out_while_a_session_is_left(fresh_postgres: EmbeddedPostgres) -> None:
    """One that does not end when it is told to, as PostgreSQL interrupts no function that is at work."""
    server = fresh_postgres
    async with connected(server.dsn("postgres")) as superuser:
        thief = await asyncpg.connect(server.dsn("event_store", "runroom_command"))
        pid = thief.get_server_pid()
        os.kill(pid, signal.SIGSTOP)
        shutting = asyncio.create_task(shut_out(server))
        try:
            rounds: set[int] = set()
            while len(rounds) < 4:
                [(may, loop)] = await superuser.fetch(
                    "select (select rolcanlogin from pg_roles where rolname = 'runroom_command'),"
                    " array(select pid from pg_stat_activity where application_name = 'psql')"
                )
                assert not (may and rounds), "the role may log in again, with a session that is still there"
                if not may:
                    rounds |= set(loop)
                await asyncio.sleep(0.02)
            assert not shutting.done()
        finally:
            os.kill(pid, signal.SIGCONT)
            await shutting
        ended = "select count(*) from pg_stat_activity where usename = 'runroom_command'"
        assert await superuser.fetchval(ended) == 0
    thief.terminate()
    server.stop()
    server.start()


async def test_a_thief_who_has_logged_in_and_is_not_yet_there_is_shut_out(fresh_postgres: EmbeddedPostgres) -> None:
    """PostgreSQL has let him in, and says who he is after a delay that he has asked for. The loop alone ends him."""
    server = fresh_postgres
    late = {"post_auth_delay": "20"}
    stolen = server.dsn("event_store", "runroom_command")
    thief = asyncio.create_task(asyncpg.connect(stolen, server_settings=late, timeout=60))
    let_in = (
        "select exists (select from pg_stat_activity join pg_locks using (pid)"
        " where usename is null and backend_type = 'client backend' and locktype = 'object')"
    )
    async with connected(server.dsn("postgres")) as superuser, asyncio.timeout(20):
        while not await superuser.fetchval(let_in):
            await asyncio.sleep(0.02)
    await shut_out(server, replaced={SET_UP: "true"})
    with pytest.raises(CUT_OFF):
        await (await thief).execute("alter role runroom_command password 'mine'")
    server.stop()
    server.start()


async def test_a_thief_who_is_logging_in_all_the_while_is_shut_out(fresh_postgres: EmbeddedPostgres) -> None:
    """He holds back what proves that he has the password, which the server has read before, and begins anew when ended.

    On one server, and once: the set-up itself ends what has begun while the role might not log in.
    """
    server = fresh_postgres
    async with running_proxy(server.port) as proxy:
        proxy.hold_before(b"c=biws,r=")
        stolen = through(proxy, server.dsn("event_store", "runroom_command"))
        thieves = [asyncio.create_task(gets_in(stolen)) for _ in range(3)]
        async with asyncio.timeout(20):
            while proxy.holds < len(thieves):
                await asyncio.sleep(0.02)
        await shut_out(server, replaced={' "$PROJECTION_SUPERUSER_DSN"; do': "; do"})
        proxy.release()
        assert await asyncio.gather(*thieves) == [False, False, False]
    server.stop()
    server.start()


async def test_what_is_prepared_is_named_and_rolled_back(fresh_postgres: EmbeddedPostgres, tmp_path: Path) -> None:
    """It outlives its session, and the server, where there may be prepared transactions."""
    server = fresh_postgres
    server.execute("alter system set max_prepared_transactions = 2")
    server.stop()
    server.start()
    server.execute("grant connect on database event_store to public")
    async with connected(server.dsn("event_store", "runroom_command")) as thief:
        await thief.execute("begin; alter role runroom_command password 'mine'")
        await thief.execute("prepare transaction 'it''s \x1b'")
        await thief.execute("begin; revoke connect on database event_store from public")
        await thief.execute("prepare transaction 'of nothing'")
    for script in (REPOSITORY / "deploy" / "postgres").glob("*.sql"):
        text = script.read_text()
        (tmp_path / script.name).write_text(text.replace("lock_timeout = '10s'", "lock_timeout = '100ms'"))
    with pytest.raises(LocalError, match='prepared as "of nothing" in the database event_store: revoke all on'):
        server.execute(f"\\i {tmp_path / 'databases.sql'}")
    with pytest.raises(LocalError, match=r"settings, prepared as \"it's \\u001b\" in the database event_store\n"):
        server.execute(f"\\i {tmp_path / 'roles.sql'}")
    shutting = asyncio.create_task(shut_out(server))
    waiting = (
        "select exists (select from pg_stat_activity where application_name = 'psql' and wait_event_type = 'Lock')"
    )
    async with connected(server.dsn("postgres")) as superuser:
        async with asyncio.timeout(20):
            while not await superuser.fetchval(waiting):
                await asyncio.sleep(0.02)
    addresses = {"EVENT_STORE_SUPERUSER_DSN": server.dsn("postgres")}
    await asyncio.to_thread(run_typed, SECTION, ROLL_BACK, addresses)
    await shutting
    server.execute("alter system reset max_prepared_transactions")
    server.stop()
    server.start()


async def shut_out(server: EmbeddedPostgres, *, replaced: Mapping[str, str] | None = None) -> None:
    """As the manual has it typed, with a new password; for both addresses, which are one server."""
    renewed = {role: password_of(server, role) for role in ROLES} | {"runroom_command": "a-new-one"}
    verifiers = {f"{role.upper()}_VERIFIER": scram_verifier(renewed[role]) for role in ROLES}
    servers = dict.fromkeys(("EVENT_STORE_SUPERUSER_DSN", "PROJECTION_SUPERUSER_DSN"), server.dsn("postgres"))
    await asyncio.to_thread(run_typed, SECTION, "for server in", {**servers, **verifiers}, replaced=replaced)


def password_of(server: EmbeddedPostgres, role: str) -> str:
    return server.dsn("event_store", role).split(":")[2].split("@")[0]


async def gets_in(stolen: str) -> bool:
    """Tries again whenever it is ended, until its password is the right one or a wrong one."""
    while True:
        try:
            thief = await asyncpg.connect(stolen)
        except asyncpg.InvalidPasswordError:
            return False
        except CUT_OFF:
            continue
        thief.terminate()
        return True


async def hold_the_role(stolen: str, held: asyncio.Event) -> None:
    """Changes the role in a transaction that is left open, and again whenever that is ended, as long as it may."""
    refused = (asyncpg.InvalidAuthorizationSpecificationError, asyncpg.InvalidPasswordError)
    while True:
        try:
            thief = await asyncpg.connect(stolen)
            ended = asyncio.Event()
            thief.add_termination_listener(lambda _, ended=ended: ended.set())
            await thief.execute("set idle_in_transaction_session_timeout = 0; set statement_timeout = 0")
            await thief.execute("begin; alter role runroom_command password 'mine'")
            held.set()
            await ended.wait()
        except refused:
            return
        except CUT_OFF:
            continue


@asynccontextmanager
async def acting(dsn: str, caller: Caller = CALLER) -> AsyncGenerator[Act, None]:
    """Sends a command, with a key, to a service that remembers nothing."""
    settings = GroupCommitSettings(as_role(dsn, "runroom_command"), 10, 10, 1000, 5.0, timedelta(days=1))
    commit = GroupCommit(settings, MintedIds(), lambda _events: None)
    working = asyncio.create_task(commit.run())

    async def act(command: Command, key: str | None = None) -> Outcome:
        idempotency = None if key is None else IdempotencyKey(key, b"f")
        request = Request(caller, command, format_time(datetime.now(UTC)), idempotency)
        return await commit.submit(request, 10)

    yield act
    working.cancel()


@pytest.fixture
async def act(event_store_dsn: str) -> AsyncGenerator[Act, None]:
    async with acting(event_store_dsn) as act:
        yield act


@pytest.fixture
def create(act: Act) -> Create:
    """Creates a run in a room, with a key."""
    return lambda room_id, key=None: act(CreateRun(room_id=room_id, correlation_id="c"), key)


AHEAD = (
    "insert into events (workspace_id, room_id, stream_seq, event_id, run_id, event_type, event_version, recorded_at,"
    " envelope) values ('ws', 'taken', {}, gen_random_uuid(), 'run_x', 'run.created', 1, now(), '{{}}')"
)


@pytest.mark.parametrize(
    ("before", "change", "number"),
    [
        (1, AHEAD.format(2), 3),
        (0, AHEAD.format(1), 2),
        (1, "update rooms set last_seq = 9007199254740991, published_seq = 9007199254740991", 2),
        (3, "update rooms set last_seq = 1, published_seq = 0", 4),
        (1, AHEAD.format(5), 2),
    ],
    ids=["an event ahead", "of a room to come", "a number to the end", "a number set back", "one further ahead"],
)
async def test_a_room_whose_number_is_not_that_of_its_events_is_set_right(
    event_store_dsn: str, create: Create, before: int, change: str, number: int
) -> None:
    async with connected(event_store_dsn) as superuser:
        await superuser.execute(
            "alter table events disable trigger all; delete from events; delete from rooms;"
            " alter table events enable trigger all"
        )
    for _ in range(before):
        assert isinstance(await create("taken", None), Accepted)
    async with connected(as_role(event_store_dsn, "runroom_command")) as thief:
        await thief.execute(change)
        if change != AHEAD.format(5):
            with pytest.raises(MisnumberedRoomError):
                await create("taken", None)
        set_right(event_store_dsn, "taken")
        # Once is enough, whatever was further on.
        for expected in range(number, number + 5):
            assert stream_seq_of(await create("taken", None)) == expected
        assert await thief.fetchval("select published_seq <= last_seq from rooms")
    async with connected(event_store_dsn) as superuser:
        with pytest.raises(asyncpg.InsufficientPrivilegeError, match="append-only"):
            await superuser.execute("delete from events")


async def test_what_is_behind_a_hole_is_taken_out_with_all_that_came_of_it(
    event_store_dsn: str, create: Create, act: Act
) -> None:
    before, ended = run_of(await create("holed")), run_of(await create("holed"))
    await act(StartRun(run_id=before))
    await act(CreateStep(run_id=before, kind="tool"))
    await act(CompleteRun(run_id=ended))
    assert stream_seq_of(await create("holed", "kept")) == 6
    async with connected(as_role(event_store_dsn, "runroom_command")) as thief:
        states = await thief.fetch("select * from runs where room_id = 'holed' order by run_id")
        await thief.execute("update rooms set last_seq = last_seq + 3, published_seq = 6 where room_id = 'holed'")
        behind = await create("holed", "gone")
        assert stream_seq_of(behind) == 10
        await act(StartRun(run_id=run_of(behind)))
        await act(CompleteRun(run_id=before))
        assert stream_seq_of(await create("another", "elsewhere")) == 1
        set_right(event_store_dsn, "holed")
        assert await thief.fetch("select * from runs where room_id = 'holed' order by run_id") == states
        keys = await thief.fetch("select idempotency_key from commands order by 1")
        assert [key for (key,) in keys] == ["elsewhere", "kept"]
        room = await thief.fetch("select last_seq, published_seq from rooms where room_id = 'holed'")
        assert [tuple(row) for row in room] == [(6, 6)]
        numbers = await thief.fetch("select stream_seq from events where room_id = 'holed' order by 1")
        assert [number for (number,) in numbers] == [1, 2, 3, 4, 5, 6]
        again = await create("holed", "gone")
        assert stream_seq_of(again) == 7
        assert isinstance(again, Accepted)
        assert not again.replayed


async def test_a_row_that_cannot_be_published_is_taken_out_with_all_that_is_behind_it(
    event_store_dsn: str, create: Create, act: Act
) -> None:
    before = run_of(await create("barred"))
    row = AHEAD.format(2).replace("taken", "barred")
    async with connected(as_role(event_store_dsn, "runroom_command")) as thief:
        await thief.execute(f"{row}; update rooms set last_seq = 2, published_seq = 1 where room_id = 'barred'")
        behind = await create("barred", "barred")
        assert stream_seq_of(behind) == 3
        await act(StartRun(run_id=before))
        set_right(event_store_dsn, "barred", last=1)
        runs = await thief.fetch("select run_id, status, version from runs where room_id = 'barred'")
        assert [tuple(run) for run in runs] == [(before, "queued", 1)]
        assert await thief.fetchval("select count(*) from commands where idempotency_key = 'barred'") == 0
        assert stream_seq_of(await act(StartRun(run_id=before))) == 2
        set_right(event_store_dsn, "barred", last=0)
        assert not await thief.fetchval("select exists (select from rooms where room_id = 'barred')")
        assert not await thief.fetchval("select exists (select from runs where room_id = 'barred')")


@pytest.mark.parametrize(
    ("room_id", "change"),
    [
        ("version", "version = 1073741823"),
        ("status", "status = 'succeeded'"),
        ("last", "last_event_id = gen_random_uuid()"),
    ],
)
async def test_the_state_of_a_run_is_made_anew_from_its_events(
    event_store_dsn: str, create: Create, act: Act, room_id: str, change: str
) -> None:
    run_id, other = run_of(await create(room_id)), run_of(await create(room_id))
    await act(StartRun(run_id=other))
    await act(CreateStep(run_id=other, kind="tool"))
    async with connected(as_role(event_store_dsn, "runroom_command")) as thief:
        await thief.execute(f"update runs set {change} where run_id = any($1)", [run_id, other])
        if room_id == "version":
            async with acting(event_store_dsn) as anew:
                for command in (StartRun(run_id=run_id), CompleteRun(run_id=other)):
                    with pytest.raises(MisnumberedRoomError):
                        await anew(command)
        lines = "".join(await states_differing(event_store_dsn, room_id))
        for run in (run_id, other):
            assert f"the state of {run} is not what its events say" in lines
        set_right(event_store_dsn, room_id)
        assert await states_differing(event_store_dsn, room_id) == []
        async with acting(event_store_dsn) as anew:
            assert stream_seq_of(await anew(StartRun(run_id=run_id))) == 5
            assert stream_seq_of(await anew(CompleteRun(run_id=other))) == 6


async def test_runs_are_made_for_events_that_are_kept(event_store_dsn: str, act: Act) -> None:
    """Whatever their envelopes are: those that a service has written, and others."""
    created = await act(CreateRun(room_id="made", thread_id="thread", correlation_id='ä€/"c'))
    await act(StartRun(run_id=run_of(created)))
    envelopes = (b"{}", b"\xff", b'{"thread_id":"a b","correlation_id":"a b"}')
    query = "select * from runs where room_id = 'made' order by run_id"
    async with connected(event_store_dsn) as superuser:
        whole = await superuser.fetch(query)
        for number, envelope in enumerate(envelopes, 3):
            row = AHEAD.format(number).replace("taken", "made").replace("run_x", f"no_run_{number}")
            await superuser.execute(row.replace("'{}'", "$1"), envelope)
        await superuser.execute("delete from runs where room_id = 'made'")
        set_right(event_store_dsn, "made")
        made = await superuser.fetch(query)
        assert [run for run in made if run["run_id"] == run_of(created)] == whole
        assert [run["correlation_id"] for run in made] == ["no_run_3", "no_run_4", "no_run_5", 'ä€/"c']
    assert await states_differing(event_store_dsn, "made") == []


async def test_an_event_that_no_run_knows_moves_none(event_store_dsn: str, create: Create, act: Act) -> None:
    """One of an unknown type is in the room all the same, and a run that no event created is none."""
    running, ended = run_of(await create("moved")), run_of(await create("moved"))
    await act(StartRun(run_id=running))
    await act(CompleteRun(run_id=ended))
    forged = [(running, "run.zzz"), (ended, "run.zzz"), ("no_run", "run.zzz"), ("steps_alone", "step.created")]
    query = "select * from runs where room_id = 'moved' order by run_id"
    async with connected(as_role(event_store_dsn, "runroom_command")) as thief:
        states = await thief.fetch(query)
        for number, (run_id, event_type) in enumerate(forged, 5):
            row = AHEAD.format(number).replace("taken", "moved")
            await thief.execute(row.replace("run_x", run_id).replace("run.created", event_type))
        await thief.execute(
            "update rooms set last_seq = 8 where room_id = 'moved';"
            " insert into runs (run_id, workspace_id, room_id, status, version, last_event_id, correlation_id)"
            " select run_id, workspace_id, room_id, 'queued', 1, event_id, 'c' from events"
            " where room_id = 'moved' and run_id in ('no_run', 'steps_alone')"
        )
        lines = await states_differing(event_store_dsn, "moved")
        told = [run_id for run_id, _ in forged if f"the state of {run_id} is not" in "".join(lines)]
        assert (told, len(lines)) == (["no_run", "steps_alone"], 2)
        set_right(event_store_dsn, "moved")
        assert await thief.fetch(query) == states
    assert await states_differing(event_store_dsn, "moved") == []
    async with acting(event_store_dsn) as anew:
        assert stream_seq_of(await anew(CreateStep(run_id=running, kind="tool"))) == 9
        for run_id, error in ((ended, "run_already_ended"), ("no_run", "run_not_found")):
            outcome = await anew(CompleteRun(run_id=run_id))
            assert isinstance(outcome, Refusal)
            assert outcome.error == error
    assert await states_differing(event_store_dsn, "moved") == []


async def test_a_run_that_is_created_again_stays_as_it_is(event_store_dsn: str, create: Create, act: Act) -> None:
    run_id = run_of(await create("again"))
    await act(StartRun(run_id=run_id))
    async with connected(as_role(event_store_dsn, "runroom_command")) as thief:
        await thief.execute(AHEAD.format(3).replace("taken", "again").replace("run_x", run_id))
    set_right(event_store_dsn, "again")
    assert await states_differing(event_store_dsn, "again") == []
    async with acting(event_store_dsn) as anew:
        assert stream_seq_of(await anew(CreateStep(run_id=run_id, kind="tool"))) == 4
    assert await states_differing(event_store_dsn, "again") == []


async def states_differing(dsn: str, room_id: str) -> list[str]:
    """What ``verify`` says of the room's runs."""
    lines: list[str] = []
    async with connected(dsn) as store:
        check = RoomsCheck(store, store, Report(lines.append))
        await check.run_states(Page(RoomKey("ws", ""), RoomKey("ws", "~")))
        await check.runs_of_no_event()
    return [line for line in lines if f" ws/{room_id} " in line]


def set_right(dsn: str, room_id: str, *, last: int | None = None) -> None:
    """As the manual has it."""
    replaced = {"=ws_dev": "=ws", "=lobby": f"={room_id}"}
    if last is not None:
        replaced["--set=last=9007199254740991"] = f"--set=last={last}"
    environment = {"EVENT_STORE_OWNER_DSN": as_role(dsn, "runroom_migrate")}
    run_typed(SECTION, "psql --set=ON_ERROR_STOP=1 --set=workspace=ws_dev --set=room", environment, replaced=replaced)


def run_of(outcome: Outcome) -> str:
    return body_of(outcome)["run_id"]


def stream_seq_of(outcome: Outcome) -> int:
    return body_of(outcome)["stream_seq"]


def body_of(outcome: Outcome) -> dict[str, Any]:
    assert isinstance(outcome, Accepted)
    return json.loads(outcome.response)


async def test_rooms_that_count_events_that_are_not_there_are_set_right_together(
    event_store_dsn: str, create: Create
) -> None:
    rooms = "select room_id, last_seq, published_seq from rooms where room_id ~ '^many_' order by room_id"
    for room_id in ("many_holed", "many_said", "many_whole", "many_split", "many_shown"):
        await create(room_id)
    async with connected(as_role(event_store_dsn, "runroom_command")) as thief:
        # Published or not, as they say.
        made_up = "insert into rooms select 'ws', 'many_' || n, n, n % 2 * n from generate_series(1, 2000) as n"
        await thief.execute(made_up)
        await thief.execute("update rooms set last_seq = 4, published_seq = 1 where room_id ~ '^many_(holed|split)'")
        await thief.execute("update rooms set last_seq = 4, published_seq = 4 where room_id ~ '^many_(said|shown)'")
        await create("many_split")
        await create("many_shown")
        said = run_typed(
            SECTION,
            "psql --set=ON_ERROR_STOP=1 --single-transaction",
            {"EVENT_STORE_OWNER_DSN": as_role(event_store_dsn, "runroom_migrate")},
        )
        left = [tuple(row) for row in await thief.fetch(rooms)]
    assert left == [
        ("many_holed", 1, 1), ("many_said", 1, 1), ("many_shown", 5, 4), ("many_split", 5, 1), ("many_whole", 1, 0)
    ]  # fmt: skip
    # Behind a hole there are answers to commands: nothing takes them out unasked.
    behind = [[value.strip() for value in line.split("|")] for line in said.splitlines() if "| many_" in line]
    assert behind == [["ws", "many_shown", "5", "2"], ["ws", "many_split", "5", "2"]]
    assert stream_seq_of(await create("many_7")) == 1


async def test_what_was_left_with_the_table_of_rooms_is_taken_away(event_store_dsn: str) -> None:
    """Statistics that are made up, as whoever may vacuum it could before, and indexes that a reindexing has left."""
    stolen = as_role(event_store_dsn, "runroom_command")
    left = "select count(*) from pg_index where indrelid = 'rooms'::regclass"
    known = "select reltuples < 1e6 and relpages < 1e6 from pg_class where relname = any('{rooms, rooms_pkey}')"
    async with connected(event_store_dsn) as superuser, connected(stolen) as thief, connected(stolen) as reader:
        before = await superuser.fetchval(left)
        await reader.execute("begin isolation level repeatable read; select from relay")
        for _ in range(2):
            await thief.execute("set statement_timeout = '200ms'")
            with pytest.raises(asyncpg.QueryCanceledError):
                await thief.execute("reindex table concurrently rooms")
        for name in ("rooms", "rooms_pkey"):
            await superuser.execute(
                f"update pg_class set reltuples = 3e38, relpages = 2147483647 where oid = '{name}'::regclass"
            )
        assert await superuser.fetchval(left) > before
        await reader.execute("rollback")
        owner = as_role(event_store_dsn, "runroom_migrate")
        run_typed(SECTION, 'psql "$EVENT_STORE_OWNER_DSN"', {"EVENT_STORE_OWNER_DSN": owner})
        assert await superuser.fetchval(left) == before
        assert [row[0] for row in await superuser.fetch(known)] == [True, True]


@pytest.mark.parametrize("name", ["x" * 5_000_000, "", "a b", "a\nb", "a\n", "é"])
@pytest.mark.parametrize("column", ["workspace_id", "room_id"])
async def test_a_run_of_a_room_that_cannot_be_is_none(event_store_dsn: str, column: str, name: str) -> None:
    """Not one that stops a command. A gigabyte of it is small in the table, and the memory of whoever reads it."""
    run_id = f"run_{uuid.uuid4().hex}"
    run = {"run_id": run_id, "workspace_id": "ws", "room_id": "named", column: name}
    async with connected(as_role(event_store_dsn, "runroom_command")) as thief:
        await thief.execute(
            "insert into runs (run_id, workspace_id, room_id, status, version, last_event_id, correlation_id)"
            " values ($1, $2, $3, 'queued', 1, gen_random_uuid(), 'c')",
            *run.values(),
        )
        for query in ("locate_runs", "load_runs"):
            assert await thief.fetch(SQL[query], [run_id]) == []
    caller = Caller(run["workspace_id"], "service", "api")
    async with acting(event_store_dsn, caller) as act:
        outcome = await act(StartRun(run_id=run_id))
    assert isinstance(outcome, Refusal)
    assert outcome.error == "run_not_found"


MALFORMED = ("../other", "a\r\nSet-Cookie: a=b", "é", "")


@pytest.mark.parametrize("run_id", [None, *MALFORMED])
async def test_an_outcome_that_is_in_the_way_is_forgotten(
    event_store_dsn: str, create: Create, run_id: str | None
) -> None:
    """One that cannot be read, or whose run has an id that no run can have: it would be a header of the answer."""
    body = body_of(await create("keyed", "order-17"))
    response = b"x" if run_id is None else json.dumps(body | {"run_id": run_id}).encode()
    async with connected(as_role(event_store_dsn, "runroom_command")) as thief:
        await thief.execute("update commands set response = $1, expires_at = '2900-01-01'", response)
        with pytest.raises(Exception, match="malformed"):
            await create("keyed", "order-17")
        run_typed(
            SECTION,
            "psql --set=workspace=ws_dev --set=key",
            {"EVENT_STORE_OWNER_DSN": as_role(event_store_dsn, "runroom_migrate")},
            replaced={"=ws_dev": "=ws"},
        )
        outcome = await create("keyed", "order-17")
        assert isinstance(outcome, Accepted)
        assert not outcome.replayed
