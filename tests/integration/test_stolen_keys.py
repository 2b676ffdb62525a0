"""With the NATS key of a service that only reads in hand: no event gets into another room, for anybody. With that of a
command service: no event is lost.

NATS sends an answer wherever it was asked to, so whoever may ask for stored messages can have them sent to another
room's subject (docs/decisions/0038-whose-event-it-is.md). The relay may change the stream, and with its key anybody can
(docs/decisions/0043-the-stream-is-put-right.md).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import secrets
import shutil
import signal
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import httpx
import pytest

from deploy.local.settings import LocalSettings
from deploy.local.stack import LocalStack
from shared.contracts.subjects import partition_filter, partition_of, room_subject
from shared.messaging.broker import Broker, BrokerUnavailableError, JetStreamError
from shared.messaging.client import Outgoing
from shared.messaging.direct_get import next_by_subject
from shared.messaging.stream import StreamState, stream_state
from tests.support.servers import broker_as

PATIENCE = 20.0
SOON = 100_000_000
MINE, YOURS = {"x-workspace-id": "ws_mine"}, {"x-workspace-id": "ws_yours"}
FROM = room_subject("ws_mine", "secret")
TO = room_subject("ws_yours", "lobby")

said: list[str] = []
"""By the services, since they were started."""


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalStack]:
    stack = LocalStack(LocalSettings(data_dir=tmp_path_factory.mktemp("stack")), echo=lambda _, line: said.append(line))
    stack.start()
    yield stack
    stack.stop()


async def forget_soon(stack: LocalStack) -> None:
    """The stream takes no event twice within two minutes, and the thief would have to wait."""
    await change_stream(stack, {"duplicate_window": SOON})


async def change_stream(stack: LocalStack, change: dict[str, Any]) -> None:
    config = await configuration(stack)
    async with stolen(stack, "command") as broker:
        await broker.jetstream("STREAM.UPDATE.ROOMS", {**config, **change})


async def configuration(stack: LocalStack) -> dict[str, Any]:
    async with stolen(stack, "command") as broker:
        return (await broker.jetstream("STREAM.INFO.ROOMS"))["config"]


def stolen(stack: LocalStack, user: str) -> AbstractAsyncContextManager[Broker]:
    assert stack.nats is not None
    return broker_as(stack.nats, user)


async def by_direct_get(broker: Broker) -> None:
    request = json.dumps({"seq": 1, "next_by_subj": FROM, "batch": 100}).encode()
    await broker.client.publish("$JS.API.DIRECT.GET.ROOMS", request, reply=TO)


async def by_consumer(broker: Broker) -> None:
    partition = partition_of("ws_mine", "secret")
    name = "projector-thief"
    config = {"name": name, "ack_policy": "none", "deliver_policy": "by_start_sequence", "opt_start_seq": 1}
    config |= {"filter_subject": partition_filter(partition), "inactive_threshold": 60_000_000_000}
    subject = f"CONSUMER.CREATE.ROOMS.{name}.{partition_filter(partition)}"
    await broker.jetstream(subject, {"stream_name": "ROOMS", "action": "create", "config": config})
    request = json.dumps({"batch": 100, "no_wait": True}).encode()
    await broker.client.publish(f"$JS.API.CONSUMER.MSG.NEXT.ROOMS.{name}", request, reply=TO)


async def by_another_answer(broker: Broker) -> None:
    """Which is of no event at all, and which the stream does take in."""
    for call, request in (("STREAM.INFO", b"{}"), ("STREAM.MSG.GET", b'{"seq": 1}')):
        await broker.client.publish(f"$JS.API.{call}.ROOMS", request, reply=TO)


@pytest.mark.parametrize(
    ("user", "send"),
    [
        ("query", by_direct_get),
        ("projector", by_direct_get),
        ("projector", by_consumer),
        ("projector", by_another_answer),
    ],
    ids=["query, direct get", "projector, direct get", "projector, consumer", "projector, another answer"],
)
async def test_what_is_sent_into_another_room_is_seen_by_nobody(
    stack: LocalStack, user: str, send: Callable[[Broker], Awaitable[None]]
) -> None:
    async with (
        httpx.AsyncClient(base_url=stack.command_url, trust_env=False, timeout=PATIENCE) as command,
        httpx.AsyncClient(base_url=stack.query_url, trust_env=False, timeout=PATIENCE) as query,
        stolen(stack, user) as broker,
    ):

        async def create(headers: dict[str, str], room_id: str) -> dict[str, Any]:
            answer = await command.post("/v1/runs", json={"room_id": room_id, "title": room_id}, headers=headers)
            assert answer.status_code == 201, answer.text
            return answer.json()

        before = await create(YOURS, "lobby")
        # Some at once, until there are some that were published in a batch, and some that were not.
        reached, kinds = 0, set[bool]()
        while reached < before["stream_seq"] + 2 or kinds != {True, False}:
            await create(MINE, "secret")
            told = await asyncio.gather(*(create(MINE, "secret") for _ in range(20)))
            reached = max(one["stream_seq"] for one in told)
            async with stolen(stack, "command") as reader:
                kinds = {"Nats-Batch-Id" in one.headers for one in await next_by_subject(reader, FROM, 1, 1000)}
        seen: list[dict[str, Any]] = []
        live = asyncio.Event()
        watching = asyncio.create_task(_watch(query, "lobby", YOURS, before["stream_seq"], seen, live))
        async with asyncio.timeout(PATIENCE):
            await live.wait()
        dropped = await _counted(query, "runroom_query_misplaced_total")
        forgotten = False
        while not forgotten:
            await forget_soon(stack)
            await asyncio.sleep(0.2)  # longer than the stream remembers what it has taken in
            await send(broker)
            await broker.client.flush(5)
            await asyncio.sleep(0.5)
            # Or else the relay has put it right in between.
            forgotten = (await configuration(stack))["duplicate_window"] == SOON
        assert seen == []
        assert (await _counted(query, "runroom_query_misplaced_total") > dropped) == (send is not by_another_answer)
        async with stolen(stack, "command") as reader:
            assert not [one for one in await next_by_subject(reader, TO, 1, 1000) if b"ws_mine" in one.data]
        # The same numbers as what was sent, and theirs all the same.
        after = [await create(YOURS, "lobby") for _ in range(3)]
        async with asyncio.timeout(PATIENCE):
            while len(seen) < len(after):
                await asyncio.sleep(0.02)
        watching.cancel()
        assert [event["event_id"] for event in seen] == [told["event_id"] for told in after]
        replayed: list[dict[str, Any]] = []
        reading = asyncio.create_task(_watch(query, "lobby", YOURS, 0, replayed))
        async with asyncio.timeout(PATIENCE):
            while len(replayed) < after[-1]["stream_seq"]:
                await asyncio.sleep(0.02)
        reading.cancel()
        assert {event["workspace_id"] for event in replayed} == {"ws_yours"}
        page = await query.get(
            "/v1/runs", params={"min_seq": after[-1]["stream_seq"], "room_id": "lobby"}, headers=YOURS
        )
        assert page.json()["runs"][0]["run_id"] == after[-1]["run_id"]
        assert {run["title"] for run in page.json()["runs"]} == {"lobby"}
        metrics = (await command.get("/metrics")).text
        assert "runroom_relay_stranger_rooms 0.0" in metrics


async def test_what_hides_the_end_of_a_room_keeps_no_event_from_its_viewers(stack: LocalStack) -> None:
    """The projector has not read the last events, and the last message of the room is an answer of the API."""
    projector = stack.projectors[0]
    headers = {"x-workspace-id": "ws_hidden"}
    subject = room_subject("ws_hidden", "lobby")
    async with (
        httpx.AsyncClient(base_url=stack.command_url, trust_env=False, timeout=PATIENCE) as command,
        httpx.AsyncClient(base_url=stack.query_url, trust_env=False, timeout=PATIENCE) as query,
        stolen(stack, "projector") as broker,
    ):

        async def create() -> dict[str, Any]:
            answer = await command.post("/v1/runs", json={"room_id": "lobby"}, headers=headers)
            assert answer.status_code == 201, answer.text
            return answer.json()

        async def stored() -> list[bytes]:
            return [message.data for message in await next_by_subject(broker, subject, 1, 1000)]

        told = [await create() for _ in range(3)]
        await wait_for_runs(query, headers, 3)
        assert projector.pid is not None
        os.kill(projector.pid, signal.SIGSTOP)
        try:
            told += [await create() for _ in range(3)]
            async with asyncio.timeout(PATIENCE):
                while len(await stored()) < 6:
                    await asyncio.sleep(0.05)
            await broker.client.publish("$JS.API.STREAM.INFO.ROOMS", b"", reply=subject)
            async with asyncio.timeout(PATIENCE):
                while len(await stored()) < 7:
                    await asyncio.sleep(0.05)
            seen: list[dict[str, Any]] = []
            watching = asyncio.create_task(_watch(query, "lobby", headers, 0, seen))
            resets = await _total(query, "runroom_query_resets_total")
            live = asyncio.Event()
            ahead = asyncio.create_task(_watch(query, "lobby", headers, told[-1]["stream_seq"], [], live))
            async with asyncio.timeout(PATIENCE):
                await live.wait()
                while len(seen) < 6:
                    await asyncio.sleep(0.02)
            assert await _total(query, "runroom_query_resets_total") == resets
        finally:
            os.kill(projector.pid, signal.SIGCONT)
        watching.cancel()
        ahead.cancel()
        assert [event["event_id"] for event in seen] == [one["event_id"] for one in told]


async def test_a_stream_that_was_emptied_is_put_right_and_nothing_is_lost(stack: LocalStack) -> None:
    """The projector has not read what is taken out; viewers come before and after."""
    projector = stack.projectors[0]
    async with (
        httpx.AsyncClient(base_url=stack.command_url, trust_env=False, timeout=PATIENCE) as command,
        httpx.AsyncClient(base_url=stack.query_url, trust_env=False, timeout=PATIENCE) as query,
        stolen(stack, "projector") as broker,
    ):
        headers = {"x-workspace-id": "ws_emptied"}
        told: dict[str, list[str]] = {f"room_{number}": [] for number in range(5)}

        async def create_some() -> None:
            for room_id in list(told) * 4:
                answer = await command.post("/v1/runs", json={"room_id": room_id}, headers=headers)
                told[room_id].append(answer.json()["event_id"])

        await create_some()
        seen: dict[str, list[dict[str, Any]]] = {room_id: [] for room_id in told}
        watching = [asyncio.create_task(_watch(query, room_id, headers, 0, seen[room_id])) for room_id in told]
        assert projector.pid is not None
        os.kill(projector.pid, signal.SIGSTOP)
        try:
            await create_some()
            before = await _standing_at(broker)
            config = await configuration(stack)
            await change_stream(stack, {"max_msgs": 1, "republish": {"src": "rooms.>", "dest": "projected.>"}})
            emptied = await _standing_at(broker)
            # An event may be published between the two looks: the newest is left, whichever it is.
            assert emptied.first_seq == emptied.last_seq >= before.last_seq
            assert emptied.identity == before.identity
            await create_some()
            async with asyncio.timeout(PATIENCE):
                while await configuration(stack) != config:
                    await asyncio.sleep(0.1)
            await create_some()
        finally:
            os.kill(projector.pid, signal.SIGCONT)
        async with asyncio.timeout(PATIENCE):
            while [len(events) for events in seen.values()] != [16] * 5:
                await asyncio.sleep(0.05)
        for task in watching:
            task.cancel()
        for room_id, expected in told.items():
            assert [event["event_id"] for event in seen[room_id]] == expected
            page = await query.get("/v1/runs", params={"min_seq": 16, "room_id": room_id}, headers=headers)
            assert len(page.json()["runs"]) == 16
            replayed: list[dict[str, Any]] = []
            reading = asyncio.create_task(_watch(query, room_id, headers, 0, replayed))
            async with asyncio.timeout(PATIENCE):
                while len(replayed) < 16:
                    await asyncio.sleep(0.02)
            reading.cancel()
            assert [event["event_id"] for event in replayed] == expected
    await verified(stack)


async def by_nothing_found(broker: Broker) -> None:
    """The answer is empty, and so a request to the API: most of its requests are."""
    await broker.client.publish("$JS.API.DIRECT.GET.ROOMS", b'{"seq": 999999999}', reply="$JS.API.STREAM.DELETE.ROOMS")


async def by_nothing_to_come(broker: Broker) -> None:
    name = f"projector-thief-{secrets.token_hex(4)}"  # a try before may have come to the stream that was made meanwhile
    config = {"name": name, "ack_policy": "none", "deliver_policy": "new", "filter_subject": partition_filter(7)}
    subject = f"CONSUMER.CREATE.ROOMS.{name}.{partition_filter(7)}"
    await broker.jetstream(subject, {"stream_name": "ROOMS", "action": "create", "config": config})
    request = json.dumps({"batch": 1, "no_wait": True}).encode()
    await broker.client.publish(f"$JS.API.CONSUMER.MSG.NEXT.ROOMS.{name}", request, reply="$JS.API.STREAM.DELETE.ROOMS")


@pytest.mark.parametrize("delete", [by_nothing_found, by_nothing_to_come])
async def test_a_stream_that_an_empty_answer_deletes_is_filled_again_and_nothing_is_lost(
    stack: LocalStack, delete: Callable[[Broker], Awaitable[None]]
) -> None:
    """What a projector's key is good for (docs/decisions/0038-whose-event-it-is.md): again and again, under load."""
    async with (
        httpx.AsyncClient(base_url=stack.command_url, trust_env=False, timeout=PATIENCE) as command,
        httpx.AsyncClient(base_url=stack.query_url, trust_env=False, timeout=PATIENCE) as query,
        stolen(stack, "projector") as broker,
    ):
        headers = {"x-workspace-id": f"ws_{delete.__name__}"}
        told: list[str] = []

        async def create() -> None:
            answer = await command.post("/v1/runs", json={"room_id": "lobby"}, headers=headers)
            assert answer.status_code == 201, answer.text
            told.append(answer.json()["event_id"])

        await create()
        seen: list[dict[str, Any]] = []
        watching = asyncio.create_task(_watch(query, "lobby", headers, 0, seen))
        for _ in range(3):
            before = await _standing_at(broker)
            await delete(broker)
            tries = 0
            async with asyncio.timeout(PATIENCE):
                while (state := await stream_state(broker)) is None or state.identity == before.identity:
                    await create()
                    await asyncio.sleep(0.05)
                    tries += 1
                    if state is not None and tries % 20 == 0:
                        # There was something to come after all, of what the stream is just filled with.
                        with contextlib.suppress(JetStreamError, BrokerUnavailableError, TimeoutError):
                            await delete(broker)
        await create()
        await wait_for_runs(query, headers, min(len(told), 50))
        async with asyncio.timeout(PATIENCE):
            while len(seen) < len(told):
                await asyncio.sleep(0.02)
        watching.cancel()
        assert [event["event_id"] for event in seen] == told
        replayed: list[dict[str, Any]] = []
        reading = asyncio.create_task(_watch(query, "lobby", headers, 0, replayed))
        async with asyncio.timeout(PATIENCE):
            while len(replayed) < len(told):
                await asyncio.sleep(0.02)
        reading.cancel()
        assert [event["event_id"] for event in replayed] == told
    await verified(stack)


async def by_consumers(broker: Broker, subject: str) -> None:
    """For good: durable, and again for as long as nobody acknowledges what he was not asked about."""
    for number in range(10):
        name = f"projector-thief-{number}"
        config = {"name": name, "durable_name": name, "deliver_subject": subject, "deliver_policy": "all"}
        config |= {"ack_policy": "explicit", "ack_wait": 1_000_000_000, "max_ack_pending": 100_000, "max_deliver": -1}
        config |= {"filter_subject": "rooms.*.*.*"}
        body = {"stream_name": "ROOMS", "action": "create", "config": config}
        await broker.jetstream(f"CONSUMER.CREATE.ROOMS.{name}.rooms.*.*.*", body)


@pytest.mark.parametrize("subject", ["relay.wake", "relay.filled", "projector.wake"])
async def test_what_is_sent_to_where_services_listen_holds_up_nothing_once_the_thief_is_gone(
    tmp_path: Path, subject: str
) -> None:
    """Whose key may have a stream of megabytes sent there (docs/decisions/0055-what-is-sent-to-who-listens.md)."""
    stack = LocalStack(LocalSettings(data_dir=tmp_path / "stack"), echo=lambda _service, _line: None)
    headers = {"x-workspace-id": "ws_sent"}
    await asyncio.to_thread(stack.start)
    try:
        async with (
            httpx.AsyncClient(base_url=stack.command_url, trust_env=False, timeout=PATIENCE) as command,
            httpx.AsyncClient(base_url=stack.query_url, trust_env=False, timeout=PATIENCE) as query,
        ):

            async def create(room_id: str, size: int = 0) -> dict[str, Any]:
                body = {"room_id": room_id, "input": {"x": "x" * size}}
                answer = await command.post("/v1/runs", json=body, headers=headers)
                assert answer.status_code == 201, answer.text
                return answer.json()

            async def read(run: dict[str, Any]) -> None:
                wanted = {"min_seq": run["stream_seq"], "wait": 20_000}
                answer = await query.get(f"/v1/runs/{run['run_id']}", params=wanted, headers=headers)
                assert answer.status_code == 200, answer.text

            for _ in range(30):
                await read(await create("large", 1_000_000))
            async with stolen(stack, "projector") as thief:
                await by_consumers(thief, subject)
            seen: list[dict[str, Any]] = []
            watching = asyncio.create_task(_watch(query, "lobby", headers, 0, seen))
            for number in range(3):
                run = await create("lobby")
                async with asyncio.timeout(PATIENCE):
                    while len(seen) <= number:
                        await asyncio.sleep(0.02)
                await read(run)
            watching.cancel()
            async with stolen(stack, "command") as reader, asyncio.timeout(PATIENCE):
                while any("thief" in name for name in (await reader.jetstream("CONSUMER.NAMES.ROOMS"))["consumers"]):
                    await asyncio.sleep(0.1)
    finally:
        await asyncio.to_thread(stack.stop)


async def verified(stack: LocalStack) -> None:
    """Once the relay has published everything: store, stream and projections agree."""
    async with asyncio.timeout(PATIENCE):
        while True:
            verify = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "services.projector", "verify"),
                env={**os.environ, **stack.addresses("projector")},
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
            )
            printed, _ = await verify.communicate()
            if verify.returncode == 0:
                return
            print(printed.decode())


async def test_a_stream_that_was_closed_for_good_is_filled_again_once_an_administrator_has_removed_it(
    stack: LocalStack,
) -> None:
    nats = stack.nats
    assert nats is not None
    async with (
        httpx.AsyncClient(base_url=stack.command_url, trust_env=False, timeout=PATIENCE) as command,
        httpx.AsyncClient(base_url=stack.query_url, trust_env=False, timeout=PATIENCE) as query,
    ):
        headers = {"x-workspace-id": "ws_closed"}

        async def create() -> str:
            answer = await command.post("/v1/runs", json={"room_id": "lobby"}, headers=headers)
            assert answer.status_code == 201, answer.text
            return answer.json()["event_id"]

        told = [await create()]
        await change_stream(stack, {"sealed": True})
        told += [await create() for _ in range(5)]
        seen: list[dict[str, Any]] = []
        watching = asyncio.create_task(_watch(query, "lobby", headers, 0, seen))
        # Live, of what the relay publishes in vain; reads are as they were.
        async with asyncio.timeout(PATIENCE):
            while len(seen) < 6:
                await asyncio.sleep(0.02)
        assert len((await query.get("/v1/runs", headers=headers)).json()["runs"]) <= 1
        await asyncio.to_thread(nats.stop)
        shutil.rmtree(nats.data_dir / "jetstream")
        await asyncio.to_thread(nats.start)
        await wait_for_runs(query, headers, 6)
        told += [await create() for _ in range(3)]
        await wait_for_runs(query, headers, 9)
        async with asyncio.timeout(PATIENCE):
            while len(seen) < 9:
                await asyncio.sleep(0.02)
        watching.cancel()
        assert [event["event_id"] for event in seen] == told


async def test_a_room_that_a_made_up_number_led_to_is_let_go_with_the_stream(stack: LocalStack) -> None:
    headers = {"x-workspace-id": "ws_far"}
    async with (
        httpx.AsyncClient(base_url=stack.command_url, trust_env=False, timeout=PATIENCE) as command,
        httpx.AsyncClient(base_url=stack.query_url, trust_env=False, timeout=PATIENCE) as query,
        httpx.AsyncClient(base_url=stack.projectors[0].url, trust_env=False, timeout=PATIENCE) as projector,
        stolen(stack, "command") as broker,
        stolen(stack, "projector") as other,
    ):

        async def create() -> None:
            answer = await command.post("/v1/runs", json={"room_id": "far"}, headers=headers)
            assert answer.status_code == 201, answer.text

        async def until(name: str, *, is_nothing: bool) -> None:
            async with asyncio.timeout(PATIENCE):
                while (await _total(projector, name) == 0) != is_nothing:
                    await asyncio.sleep(0.1)

        await create()
        await until("runroom_projector_behind_rooms", is_nothing=True)
        message = {"Nats-Msg-Id": "made-up-far", "Runroom-Stream-Seq": str(10**17)}
        await broker.client.request(room_subject("ws_far", "far"), b"{}", timeout=5, headers=message)
        await until("runroom_projector_behind_rooms", is_nothing=False)
        await create()
        await wait_for_runs(query, headers, 2)
        before = await _standing_at(other)
        await by_nothing_found(other)
        async with asyncio.timeout(PATIENCE):
            while (state := await stream_state(other)) is None or state.identity == before.identity:
                await asyncio.sleep(0.05)
        await until("runroom_projector_behind_rooms", is_nothing=True)
        await create()
        await wait_for_runs(query, headers, 3)
        await until("runroom_projector_lag_events", is_nothing=True)


@pytest.mark.parametrize(
    ("user", "subject"),
    [("command", "relay.wake"), ("projector", "projector.wake"), ("projector", "projected.ws_woken.lobby")],
)
async def test_whoever_is_woken_reads_no_headers(stack: LocalStack, user: str, subject: str) -> None:
    """They may be nothing that is to be read, and are nobody's business there."""
    headers = {"x-workspace-id": "ws_woken"}
    async with (
        httpx.AsyncClient(base_url=stack.command_url, trust_env=False, timeout=PATIENCE) as command,
        httpx.AsyncClient(base_url=stack.query_url, trust_env=False, timeout=PATIENCE) as query,
        stolen(stack, user) as broker,
    ):

        async def create() -> dict[str, Any]:
            answer = await command.post("/v1/runs", json={"room_id": "lobby"}, headers=headers)
            assert answer.status_code == 201, answer.text
            return answer.json()

        async def read(run_id: str, min_seq: int) -> httpx.Response:
            return await query.get(f"/v1/runs/{run_id}", params={"min_seq": min_seq, "wait": 20_000}, headers=headers)

        said.clear()
        first = await create()
        assert (await read(first["run_id"], first["stream_seq"])).status_code == 200
        waits = await _counted(query, "runroom_query_min_seq_waits_total")
        waiting = asyncio.create_task(read(first["run_id"], first["stream_seq"] + 1))
        async with asyncio.timeout(PATIENCE):
            while await _counted(query, "runroom_query_min_seq_waits_total") == waits:
                await asyncio.sleep(0.02)
        asked = Outgoing("$JS.API.STREAM.INFO.ROOMS", b"", b"")
        for raw in (b"x", b"NATS/1.0 \xff2", b"NATS/1.0"):
            await broker.client.request_all([*([Outgoing(subject, raw, b"")] * 50), asked], 5)
        await create()
        assert (await waiting).status_code == 200
        assert [line for line in said if "broker_error" in line] == []


async def test_a_subject_with_other_white_space_in_it_is_one_subject(stack: LocalStack) -> None:
    """Stored, it comes to the projectors with the events of its partition."""
    headers = {"x-workspace-id": "ws_tab"}
    async with (
        httpx.AsyncClient(base_url=stack.command_url, trust_env=False, timeout=PATIENCE) as command,
        httpx.AsyncClient(base_url=stack.query_url, trust_env=False, timeout=PATIENCE) as query,
        stolen(stack, "command") as broker,
    ):

        async def create() -> str:
            answer = await command.post("/v1/runs", json={"room_id": "lobby"}, headers=headers)
            assert answer.status_code == 201, answer.text
            return answer.json()["event_id"]

        told = [await create()]
        seen: list[dict[str, Any]] = []
        watching = asyncio.create_task(_watch(query, "lobby", headers, 0, seen))
        await wait_for_runs(query, headers, 1)
        for space in "\x0b\x0c\x1c\x85":
            subject = room_subject("ws_tab", "lobby") + space
            answer = json.loads(await broker.client.request_all([Outgoing(f"{subject}1", b"", b"{}")], 5))
            assert answer["stream"] == "ROOMS"
            told.append(await create())
        await wait_for_runs(query, headers, len(told))
        async with asyncio.timeout(PATIENCE):
            while len(seen) < len(told):
                await asyncio.sleep(0.02)
        watching.cancel()
        assert [event["event_id"] for event in seen] == told


async def wait_for_runs(query: httpx.AsyncClient, headers: dict[str, str], number: int) -> None:
    async with asyncio.timeout(PATIENCE):
        while len((await query.get("/v1/runs", headers=headers)).json()["runs"]) < number:
            await asyncio.sleep(0.1)


async def _standing_at(broker: Broker) -> StreamState:
    state = await stream_state(broker)
    assert state is not None
    return state


async def _watch(
    query: httpx.AsyncClient,
    room_id: str,
    headers: dict[str, str],
    after: int,
    seen: list[dict[str, Any]],
    live: asyncio.Event | None = None,
) -> None:
    path = f"/v1/streams/rooms/{room_id}"
    async with query.stream("GET", path, headers={**headers, "last-event-id": str(after)}) as answer:
        assert answer.status_code == 200
        async for line in answer.aiter_lines():
            if line == "event: caught-up" and live is not None:
                live.set()
            if line.startswith("data: ") and '"event_id"' in line:
                seen.append(json.loads(line.removeprefix("data: ")))  # others look at it meanwhile


async def _total(service: httpx.AsyncClient, name: str) -> float:
    """Of a metric, over all its labels."""
    lines = (await service.get("/metrics")).text.splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith(f"{name}{{"))


async def _counted(query: httpx.AsyncClient, name: str) -> float:
    (line,) = [line for line in (await query.get("/metrics")).text.splitlines() if line.startswith(f"{name} ")]
    return float(line.split()[1])
