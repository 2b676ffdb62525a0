"""Two command services on one event store: order, idempotency, overload, and what a lost database leaves behind."""

import asyncio
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import httpx
import pytest

from deploy.local import EmbeddedNats, EmbeddedPostgres
from deploy.local.service import Service
from services.command.domain.batch import Accepted, IdempotencyKey, Outcome, Request
from services.command.domain.commands import CreateRun
from services.command.domain.decide import Caller
from services.command.group_commit import GroupCommit, GroupCommitSettings
from services.command.ids import MintedIds
from services.command.submissions import BatchCrashedError
from shared.contracts.times import format_time
from shared.postgres import migrate
from tests.integration.command.deployment import (
    Client,
    check_store,
    check_stream,
    command_service,
    locked_room,
    running,
)
from tests.integration.privileges import connected
from tests.support.proxy import running_proxy, through
from tests.support.servers import EVENT_STORE_MIGRATIONS, as_role


class Pair:
    """Two command services on one event store and one broker."""

    def __init__(self, services: list[Service], dsn: str, nats_url: str) -> None:
        self.services = services
        self.dsn = dsn
        self.nats_url = nats_url


@pytest.fixture(scope="module")
async def pair(event_store_dsn: str, fresh_nats: EmbeddedNats, tmp_path_factory: pytest.TempPathFactory):
    folder = tmp_path_factory.mktemp("pair")
    services = [command_service(folder, event_store_dsn, fresh_nats.url) for _ in range(2)]
    async with running(*services):
        yield Pair(services, event_store_dsn, fresh_nats.url)


async def test_writers_side_by_side_keep_every_room_in_order(pair: Pair) -> None:
    async with Client(pair.services, "order") as client:
        rooms = ["hot"] * 10 + [f"room_{number}" for number in range(10)]
        await asyncio.gather(*(client.tell_run(room, steps=4) for room in rooms))
        await check_store(pair.dsn, client)
    await check_stream(pair.dsn, pair.nats_url)


async def test_one_key_at_both_services_at_once_is_one_event(pair: Pair) -> None:
    async with Client(pair.services, "twins") as client:
        for number in range(25):
            body = {"room_id": f"room_{number}"}
            answers = await asyncio.gather(*(client.once("/v1/runs", body, f"key_{number}") for _ in range(4)))
            assert {answer.status_code for answer in answers} == {201}
            assert len({answer.content for answer in answers}) == 1
            assert len({answer.headers["location"] for answer in answers}) == 1
            assert [answer.headers.get("idempotency-replayed") for answer in answers].count("true") == 3
            assert answers[0].json()["stream_seq"] == 1


async def test_one_key_for_two_rooms_at_once_is_one_event_and_one_refusal(pair: Pair) -> None:
    async with Client(pair.services, "rivals") as client:
        for number in range(25):
            answers = await asyncio.gather(
                *(client.once("/v1/runs", {"room_id": f"{side}_{number}"}, f"key_{number}") for side in "ab")
            )
            assert sorted(answer.status_code for answer in answers) == [201, 422]


async def test_what_is_stored_under_one_key_fails_no_command_beside_it(event_store_dsn: str) -> None:
    """Somebody with the service's password has made an outcome unreadable; what comes with it is one batch."""
    dsn = as_role(event_store_dsn, "runroom_command")
    commit = GroupCommit(
        GroupCommitSettings(dsn, 100, 100, 1_000_000, 5.0, timedelta(days=1)), MintedIds(), lambda _events: None
    )

    def create(number: int) -> asyncio.Task[Outcome]:
        key = IdempotencyKey(f"key_{number}", b"fingerprint")
        command = CreateRun(room_id=f"room_{number % 2}", correlation_id="c")
        request = Request(Caller("beside", "service", "api"), command, format_time(datetime.now(UTC)), key)
        return asyncio.create_task(commit.submit(request, 100))

    tasks = [create(0)]
    working = asyncio.create_task(commit.run())
    await tasks[0]
    async with connected(dsn) as thief:
        await thief.execute("update commands set response = 'x' where idempotency_key = 'key_0'")
        tasks = [create(number) for number in range(6)]
        spoilt, *others = await asyncio.gather(*tasks, return_exceptions=True)
        assert isinstance(spoilt, BatchCrashedError)
        assert [outcome.status for outcome in others if isinstance(outcome, Accepted)] == [201] * 5
        events = "select count(*), max(stream_seq) from events where workspace_id = 'beside'"
        assert tuple(await thief.fetchrow(events) or ()) == (6, 3)
        await thief.execute("delete from commands where idempotency_key = 'key_0'")
        assert isinstance(await create(0), Accepted)
    working.cancel()


async def test_the_event_store_refuses_to_change_or_forget(pair: Pair) -> None:
    async with Client(pair.services, "forever") as client:
        await client.send("/v1/runs", {"room_id": "r"})
    connection = await asyncpg.connect(pair.dsn)
    try:
        for change in ("update events set stream_seq = stream_seq + 1", "delete from events", "truncate events"):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.execute(change)
    finally:
        await connection.close()


async def test_overload_is_answered_and_nothing_is_lost(
    event_store_dsn: str, fresh_nats: EmbeddedNats, tmp_path: Path
) -> None:
    settings = {"QUEUE_COMMANDS": "5", "BATCH_COMMANDS": "2", "STORE_TIMEOUT_SECONDS": "1"}
    service = command_service(tmp_path, event_store_dsn, fresh_nats.url, **settings)
    async with running(service), Client([service], "overload") as client:
        await client.send("/v1/runs", {"room_id": "r"})
        async with locked_room(event_store_dsn, "overload", "r"):
            answers = await asyncio.gather(*(client.once("/v1/runs", {"room_id": "r"}) for _ in range(20)))
            errors = {answer.json()["error"] for answer in answers}
            assert {answer.status_code for answer in answers} == {503}
            assert errors == {"overloaded", "store_unavailable"}
            assert all(int(answer.headers["retry-after"]) > 0 for answer in answers)
        await client.send("/v1/runs", {"room_id": "r"})
        await check_store(event_store_dsn, client)


@pytest.mark.parametrize(
    ("members", "refused"),
    [
        (b'"title":"%b"' % (b"x" * 900_000), 8),
        (b'"title":"%b\\ud83d\\ude00"' % (b"x" * 900_000), 12),  # four times as large in memory
        (b'"input":{"a":[%b0]}' % (b'{"a":1},' * 112_000), 8),  # thirty times, were it held as it is read
        (b'"input":{"a":[%b0]}' % (b"9e9," * 225_000), 12),  # three times as long when it is written again
    ],
    ids=["text", "wide text", "objects", "numbers"],
)
async def test_large_bodies_fill_the_queue_by_what_is_held_of_them(
    event_store_dsn: str, fresh_nats: EmbeddedNats, tmp_path: Path, members: bytes, refused: int
) -> None:
    workspace = f"large_{len(members)}"
    service = command_service(tmp_path, event_store_dsn, fresh_nats.url, QUEUE_MEGABYTES="4")
    async with running(service), Client([service], workspace) as client:
        await client.send("/v1/runs", {"room_id": "r"})
        before = resident_kib(service)
        body = b'{"room_id":"r",%b}' % members
        async with locked_room(event_store_dsn, workspace, "r"):
            answers = await asyncio.gather(*(client.once("/v1/runs", body) for _ in range(16)))
            assert Counter(answer.json()["error"] for answer in answers)["overloaded"] >= refused
        assert resident_kib(service) - before < 100 * 1024
        await client.send("/v1/runs", {"room_id": "r"})
        await check_store(event_store_dsn, client)


async def test_a_room_that_somebody_keeps_locked_stops_no_other(
    event_store_dsn: str, fresh_nats: EmbeddedNats, tmp_path: Path
) -> None:
    service = command_service(tmp_path, event_store_dsn, fresh_nats.url, STORE_TIMEOUT_SECONDS="6")
    async with running(service), Client([service], "locked") as client:
        run = await client.send("/v1/runs", {"room_id": "held"})
        async with locked_room(event_store_dsn, "locked", "held"):
            paths = ["/v1/runs", f"/v1/runs/{run.run_id}/start"] * 3
            refused = asyncio.gather(*(client.once(path, _body(path)) for path in paths))
            others = [client.tell_run(f"room_{number}") for number in range(20)]
            await asyncio.gather(*others)
            await check_stream(event_store_dsn, fresh_nats.url, within=2.5)
            assert not refused.done()
            assert {answer.json()["error"] for answer in await refused} == {"store_unavailable"}
            late = asyncio.gather(*(client.send("/v1/runs", {"room_id": "held"}) for _ in range(3)))
            await asyncio.sleep(0.7)
        await late
        await check_store(event_store_dsn, client)
    await check_stream(event_store_dsn, fresh_nats.url)


def _body(path: str) -> dict[str, str]:
    return {"room_id": "held"} if path == "/v1/runs" else {}


async def test_a_slow_database_is_answered_for_in_time_and_costs_no_memory(
    event_store_dsn: str, fresh_nats: EmbeddedNats, tmp_path: Path
) -> None:
    """More callers than a slow database can serve: none waits for longer than the store timeout."""
    port = urlsplit(event_store_dsn).port
    assert port is not None
    settings = {"QUEUE_COMMANDS": "50", "BATCH_COMMANDS": "10", "STORE_TIMEOUT_SECONDS": "2"}
    async with running_proxy(port) as proxy:
        service = command_service(tmp_path, through(proxy, event_store_dsn), fresh_nats.url, **settings)
        async with running(service), Client([service], "slow") as client:
            await client.send("/v1/runs", {"room_id": "r"})
            before = resident_kib(service)
            proxy.delay(0.4)
            answered: Counter[str] = Counter()

            async def call() -> None:
                for _ in range(8):
                    answer = await client.once("/v1/runs", {"room_id": "r", "title": "x" * 10_000})
                    answered["accepted" if answer.status_code == 201 else answer.json()["error"]] += 1

            await asyncio.gather(*(call() for _ in range(64)))
            assert answered.keys() <= {"accepted", "overloaded", "store_unavailable"}
            # The queue is as long as five batches take, three times the timeout.
            assert min(answered["overloaded"], answered["store_unavailable"]) > 0
            assert resident_kib(service) - before < 32 * 1024
            proxy.delay(0.0)
            async with asyncio.timeout(10):
                while (await client.once("/v1/runs", {"room_id": "r"})).status_code != 201:
                    await asyncio.sleep(0.1)


def resident_kib(service: Service) -> int:
    status = Path(f"/proc/{service.pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0])


async def test_a_database_killed_under_load_loses_and_doubles_nothing(
    fresh_postgres: EmbeddedPostgres, tmp_path: Path, nats_server: EmbeddedNats
) -> None:
    dsn = fresh_postgres.dsn("event_store")
    await asyncio.gather(*(migrate(dsn, EVENT_STORE_MIGRATIONS) for _ in range(3)))
    services = [command_service(tmp_path, dsn, nats_server.url) for _ in range(2)]
    async with running(*services), Client(services, "killed") as client:
        load = asyncio.gather(*(client.tell_run(f"room_{number % 7}", steps=3) for number in range(60)))
        for _ in range(2):
            await asyncio.sleep(0.4)
            await asyncio.to_thread(fresh_postgres.kill)
            await asyncio.to_thread(fresh_postgres.start)
        await load
        await check_store(dsn, client)


@pytest.mark.parametrize("rooms", ["known", "new"])
async def test_a_commit_whose_answer_was_lost_is_settled_by_looking(
    event_store_dsn: str, fresh_nats: EmbeddedNats, tmp_path: Path, rooms: str
) -> None:
    """Without idempotency keys: nothing but the event itself tells that it was committed.

    What is written to a room that is known is committed with the statement that writes it.
    """
    port = urlsplit(event_store_dsn).port
    assert port is not None
    async with running_proxy(port) as proxy:
        service = command_service(tmp_path, through(proxy, event_store_dsn), fresh_nats.url)
        async with running(service), Client([service], f"cut_{rooms}") as client:
            await client.once("/v1/runs", {"room_id": "r", "title": "first"})
            for round_ in range(3):
                room = "r" if rooms == "known" else f"r_{round_}"
                proxy.cut_after(b"commit" if rooms == "new" else f'"title":"{round_}.'.encode())
                titles = [f"{round_}.{number}" for number in range(10)]
                answers = await asyncio.gather(
                    *(client.once("/v1/runs", {"room_id": room, "title": title}) for title in titles)
                )
                assert [answer.status_code for answer in answers] == [201] * 10
                assert proxy.cuts == round_ + 1
    connection = await asyncpg.connect(event_store_dsn)
    try:
        stored = await connection.fetchval(
            "select array_agg(convert_from(envelope, 'utf8')::json #>> '{data,title}') from events"
            " where workspace_id = $1",
            f"cut_{rooms}",
        )
    finally:
        await connection.close()
    assert len(stored) == 31
    assert len(set(stored)) == 31


async def test_without_a_database_the_answer_is_503_in_time(tmp_path: Path, nats_server: EmbeddedNats) -> None:
    dsn = "postgresql://nobody@127.0.0.1:1/event_store"
    service = command_service(tmp_path, dsn, nats_server.url, STORE_TIMEOUT_SECONDS="0.5")
    service.start()
    try:
        async with httpx.AsyncClient(base_url=service.url) as http:
            async with asyncio.timeout(20):
                while True:
                    try:
                        health = await http.get("/healthz")
                        break
                    except httpx.TransportError:
                        await asyncio.sleep(0.05)
            assert health.status_code == 200
            assert (await http.get("/readyz")).status_code == 503
            answer = await http.post("/v1/runs", json={"room_id": "r"})
            assert (answer.status_code, answer.json()["error"]) == (503, "store_unavailable")
            assert "retry-after" in answer.headers
    finally:
        await asyncio.to_thread(service.stop)
