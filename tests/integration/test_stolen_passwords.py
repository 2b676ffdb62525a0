"""With the PostgreSQL password of a command service stolen: what the manual has people type shuts the thief out, and
takes away what is in the way afterwards."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest

from deploy.local import EmbeddedPostgres
from deploy.local.postgres import ROLES
from deploy.scram import scram_verifier
from services.command.domain.batch import Accepted, IdempotencyKey, Outcome, Request
from services.command.domain.commands import CreateRun
from services.command.domain.decide import Caller
from services.command.group_commit import GroupCommit, GroupCommitSettings
from services.command.ids import MintedIds
from services.command.submissions import NotStorableError
from shared.contracts.times import format_time
from tests.integration.privileges import connected
from tests.support.manual import run_typed
from tests.support.servers import as_role

SECTION = "When a credential is stolen"
Create = Callable[[str, str | None], Awaitable[Outcome]]


async def test_a_password_is_replaced_and_the_thief_is_shut_out(fresh_postgres: EmbeddedPostgres) -> None:
    server = fresh_postgres
    stolen = server.dsn("event_store", "runroom_command")
    password = {role: server.dsn("event_store", role).split(":")[2].split("@")[0] for role in ROLES}
    thief = await asyncpg.connect(stolen)
    await thief.execute("alter role runroom_command in database event_store set synchronous_commit = off")
    renewed = {**password, "runroom_command": "a-new-one"}
    verifiers = {f"{role.upper()}_VERIFIER": scram_verifier(renewed[role]) for role in ROLES}
    environment = {"SUPERUSER_DSN": server.dsn("postgres"), **verifiers}
    run_typed(SECTION, "psql --set=ON_ERROR_STOP=1 --command", environment)
    with pytest.raises((asyncpg.PostgresConnectionError, asyncpg.AdminShutdownError, asyncpg.InterfaceError)):
        await thief.execute("alter role runroom_command password 'mine'")
    with pytest.raises(asyncpg.InvalidPasswordError):
        await asyncpg.connect(stolen)
    async with connected(stolen.replace(password["runroom_command"], "a-new-one")) as service:
        assert await service.fetchval("show synchronous_commit") == "on"
    server.stop()
    server.start()


@pytest.fixture
async def create(event_store_dsn: str) -> AsyncGenerator[Create, None]:
    """Creates a run in a room, with a key."""
    settings = GroupCommitSettings(as_role(event_store_dsn, "runroom_command"), 10, 10, 1000, 5.0, timedelta(days=1))
    commit = GroupCommit(settings, MintedIds(), lambda _events: None)

    async def create(room_id: str, key: str | None = None) -> Outcome:
        request = Request(
            Caller("ws", "service", "api"),
            CreateRun(room_id=room_id, correlation_id="c"),
            format_time(datetime.now(UTC)),
            None if key is None else IdempotencyKey(key, b"f"),
        )
        return await commit.submit(request, 10)

    working = asyncio.create_task(commit.run())
    yield create
    working.cancel()


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
            with pytest.raises(NotStorableError):
                await create("taken", None)
        run_typed(
            SECTION,
            "psql --set=workspace=ws_dev --set=room",
            {"EVENT_STORE_OWNER_DSN": as_role(event_store_dsn, "runroom_migrate")},
            replaced={"=ws_dev": "=ws", "=lobby": "=taken"},
        )
        for expected in range(number, 4 if change == AHEAD.format(5) else number + 1):
            outcome = await create("taken", None)
            assert isinstance(outcome, Accepted)
            assert f'"stream_seq":{expected}'.encode() in outcome.response
        assert await thief.fetchval("select published_seq <= last_seq from rooms")


async def test_an_outcome_that_is_in_the_way_is_forgotten(event_store_dsn: str, create: Create) -> None:
    await create("keyed", "order-17")
    async with connected(as_role(event_store_dsn, "runroom_command")) as thief:
        await thief.execute("update commands set response = 'x', expires_at = '2900-01-01'")
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
