"""Every NATS user does its service's work and nothing else; who has no key, or another, does nothing."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import suppress
from operator import attrgetter
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from nats.errors import Error as NatsError

from deploy.local import EmbeddedNats
from deploy.local.nats import USERS, USERS_FILE, users_and
from shared.contracts.subjects import RELAY_FILLED_SUBJECT
from shared.messaging.access import NatsAccess
from shared.messaging.broker import Broker, BrokerUnavailableError, JetStreamError
from shared.messaging.client import MessagingClient
from shared.messaging.direct_get import last_by_subjects, next_by_subject
from shared.messaging.nkey import UserKey, new_seed
from shared.messaging.stream import StreamSettings, ensure_stream, stream_state
from tests.support.servers import broker_as

ROOM = "rooms.3.ws_dev.lobby"
FILTER = "rooms.3.*.*"
API = "$JS.API"

PUBLISH: dict[str, set[str]] = {
    ROOM: {"command"},
    "rooms.3": set(),
    "rooms.3.ws_dev.lobby.more": set(),
    "relay.wake": {"command"},
    "projected.ws_dev.lobby": {"projector"},
    "projector.wake": {"projector"},
    "relay.filled": {"command"},
    "stream.info": set(),
    f"{API}.STREAM.INFO.ROOMS": {"command", "projector"},
    f"{API}.STREAM.CREATE.ROOMS": {"command"},
    f"{API}.STREAM.UPDATE.ROOMS": {"command"},
    f"{API}.STREAM.MSG.GET.ROOMS": {"command", "projector"},
    f"{API}.DIRECT.GET.ROOMS": {"command", "projector", "query"},
    f"{API}.CONSUMER.CREATE.ROOMS.projector-runs-3-a.{FILTER}": {"projector"},
    f"{API}.CONSUMER.MSG.NEXT.ROOMS.projector-runs-3-a": {"projector"},
    f"{API}.CONSUMER.DELETE.ROOMS.projector-runs-3-a": {"command", "projector"},
    f"{API}.CONSUMER.INFO.ROOMS.projector-runs-3-a": {"command"},
    f"{API}.CONSUMER.NAMES.ROOMS": {"command"},
    # What nobody does.
    f"{API}.STREAM.DELETE.ROOMS": set(),
    f"{API}.STREAM.PURGE.ROOMS": set(),
    f"{API}.STREAM.MSG.DELETE.ROOMS": set(),
    f"{API}.STREAM.SNAPSHOT.ROOMS": set(),
    f"{API}.STREAM.RESTORE.ROOMS": set(),
    f"{API}.STREAM.LEADER.STEPDOWN.ROOMS": set(),
    f"{API}.STREAM.PEER.REMOVE.ROOMS": set(),
    f"{API}.STREAM.CREATE.OTHER": set(),
    f"{API}.STREAM.INFO.OTHER": set(),
    f"{API}.STREAM.LIST": set(),
    f"{API}.STREAM.NAMES": set(),
    f"{API}.INFO": set(),
    f"{API}.CONSUMER.CREATE.ROOMS": set(),
    f"{API}.CONSUMER.CREATE.ROOMS.all": set(),
    f"{API}.CONSUMER.CREATE.ROOMS.all.>": set(),
    f"{API}.CONSUMER.DURABLE.CREATE.ROOMS.all": set(),
    f"{API}.CONSUMER.LIST.ROOMS": set(),
    f"{API}.CONSUMER.PAUSE.ROOMS.all": set(),
    f"{API}.CONSUMER.MSG.NEXT.OTHER.all": set(),
    f"{API}.CONSUMER.DELETE.OTHER.all": set(),
    f"{API}.DIRECT.GET.OTHER": set(),
    "$JS.ACK.ROOMS.all.1.1.1.1.1": set(),
    "$SYS.REQ.SERVER.PING": set(),
    "$KV.any.key": set(),
    "_INBOX_runroom-command.a": set(),
    "_INBOX_runroom-projector.a": set(),
    "_INBOX_runroom-query.a": set(),
    "anything": set(),
}
"""Who may publish there."""

SUBSCRIBE: dict[str, set[str]] = {
    ROOM: {"query"},
    "rooms.>": set(),
    "projected.ws_dev.lobby": {"query"},
    "projected.ws_dev.*": {"query"},
    "projected.>": set(),
    "relay.wake": {"command"},
    "relay.filled": {"query"},
    "projector.wake": {"projector"},
    **{f"_INBOX_runroom-{user}.{rest}": {user} for user in USERS for rest in ("a", "a.*", ">")},
    "_INBOX.>": set(),
    "$JS.API.>": set(),
    "$JS.EVENT.ADVISORY.>": set(),
    "$SYS.>": set(),
    "*.a": set(),
    ">": set(),
}
"""Who may listen there."""


@pytest.fixture(scope="module")
def nats(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedNats]:
    """As `make up` has it: nobody else may connect."""
    server = EmbeddedNats(tmp_path_factory.mktemp("nats"), users=USERS_FILE.read_text())
    server.start()
    yield server
    server.stop()


async def refused(
    nats: EmbeddedNats, user: str, subjects: Iterable[str], ask: Callable[[MessagingClient, str], Awaitable[object]]
) -> set[str]:
    """The subjects of which the server says that the user must not do with them what ``ask`` does."""
    key = UserKey(nats.seed_file(user).read_text())
    client = MessagingClient(public_key=key.public)
    last = "nobody.may.this"
    names = {subject.lower(): subject for subject in (*subjects, last)}
    said: set[str] = set()

    async def note(error: Exception) -> None:
        found = re.search(r'permissions violation for .* "(.*)"', str(error).lower())
        assert found, error
        said.add(names[found[1]])

    await client.connect(nats.url, signature_cb=key.sign, error_cb=note, allow_reconnect=False)
    try:
        for subject in names.values():
            await ask(client, subject)
        await client.flush(5)
        async with asyncio.timeout(10):
            while last not in said:
                await asyncio.sleep(0.01)
    finally:
        await client.close()
    return said - {last}


@pytest.mark.parametrize("user", USERS)
async def test_each_user_publishes_where_it_may_and_nowhere_else(nats: EmbeddedNats, user: str) -> None:
    async def publish(client: MessagingClient, subject: str) -> None:
        # What is no request is answered with an error, or not at all, and does nothing.
        await client.publish(subject, b"?", headers={"Nats-Expected-Last-Sequence": "99999"})

    expected = {subject for subject, users in PUBLISH.items() if user not in users}
    assert await refused(nats, user, PUBLISH, publish) == expected


@pytest.mark.parametrize("user", USERS)
async def test_each_user_listens_where_it_may_and_nowhere_else(nats: EmbeddedNats, user: str) -> None:
    async def listen(client: MessagingClient, subject: str) -> None:
        await client.subscribe(subject)

    expected = {subject for subject, users in SUBSCRIBE.items() if user not in users}
    assert await refused(nats, user, SUBSCRIBE, listen) == expected


@pytest.mark.parametrize(("user", "most"), [("command", 1_000), ("projector", 1_000), ("query", 50_000)])
async def test_a_connection_has_so_many_subscriptions(nats: EmbeddedNats, user: str, most: int) -> None:
    reader, writer = await _connect(nats, user)
    try:
        for number in range(most):
            writer.write(b"SUB _INBOX_runroom-%b.%d %d\r\n" % (user.encode(), number, number))
        writer.write(b"PING\r\n")
        assert await reader.readline() == b"PONG\r\n"
        writer.write(b"SUB _INBOX_runroom-%b.last 0\r\nPING\r\n" % user.encode())
        assert b"maximum subscriptions exceeded" in (await reader.readline()).lower()
    finally:
        writer.close()


async def test_who_asks_for_much_and_reads_nothing_is_cut_off(nats: EmbeddedNats) -> None:
    """Before NATS has kept for him what it keeps for anybody where it is not told better: 64 MiB, for ten seconds."""
    async with broker_as(nats, "command") as relay:
        await ensure_stream(relay, StreamSettings())
        for _ in range(40):
            await relay.client.publish(ROOM, b"x" * 1_000_000)
        async with asyncio.timeout(30):
            while (state := await stream_state(relay)) is None or state.last_seq < 40:
                await asyncio.sleep(0.1)
    _, writer = await _connect(nats, "query")
    cut_off = r"Slow Consumer Detected: (MaxPending of 16777216|WriteDeadline of 2s) [Ee]xceeded"
    inbox, get = b"_INBOX_runroom-query.unread", b'{"seq":1,"next_by_subj":"rooms.>","batch":1000}'
    try:
        writer.write(
            b"SUB %b 1\r\nPUB %b.DIRECT.GET.ROOMS %b %d\r\n%b\r\n" % (inbox, API.encode(), inbox, len(get), get)
        )
        async with asyncio.timeout(20):
            while not re.search(cut_off, nats.log_file.read_text()):
                await asyncio.sleep(0.1)
    finally:
        writer.transport.abort()


async def _connect(nats: EmbeddedNats, user: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection with the key of a service, without a client that keeps to what a server wants."""
    key = UserKey(nats.seed_file(user).read_text())
    reader, writer = await asyncio.open_connection(*urlsplit(nats.url).netloc.split(":"))
    nonce = json.loads((await reader.readline()).partition(b" ")[2])["nonce"]
    options = {
        "nkey": key.public,
        "sig": key.sign(nonce).decode(),
        "verbose": False,
        "lang": "test",
        "version": "1",
        "headers": True,
    }
    writer.write(b"CONNECT %b\r\n" % json.dumps(options).encode())
    return reader, writer


async def test_there_is_no_way_into_the_stream_by_an_answer(nats: EmbeddedNats) -> None:
    """No permission covers the subject that an answer is asked to be sent to."""
    async with broker_as(nats, "command") as command:
        await ensure_stream(command, StreamSettings())
        await command.client.request(ROOM, b"first", timeout=5)
        before = await stream_state(command)
        async with broker_as(nats, "query") as query:
            assert (await last_by_subjects(query, [ROOM], attrgetter("data"))).found == [b"first"]
            request = json.dumps({"seq": 1, "next_by_subj": ROOM, "batch": 1}).encode()
            await query.client.publish(f"{API}.DIRECT.GET.ROOMS", request, reply="rooms.3.ws_dev.other")
            await query.client.flush(5)
            # The answer to this one comes after the answer to that one would have.
            await next_by_subject(query, ROOM, 1, 10)
        assert await stream_state(command) == before


@pytest.mark.parametrize(
    "reply", ["stream.info", RELAY_FILLED_SUBJECT, f"{API}.STREAM.INFO.ROOMS", f"{API}.INFO", f"{API}.DIRECT.GET.ROOMS"]
)
async def test_no_answer_is_a_request_to_jetstream(tmp_path: Path, reply: str) -> None:
    """Of which one request would make a thousand, each with an answer to be kept until it is sent."""
    server = EmbeddedNats(tmp_path / "nats", users=users_and("anybody"))
    server.start()
    try:
        async with Broker(server.url, name="test") as anybody, broker_as(server, "query") as query:
            anybody.start()
            await anybody.wait_connected()
            await ensure_stream(anybody, StreamSettings())
            for _ in range(50):
                await anybody.client.request(ROOM, b"", timeout=5)
            before = (await anybody.jetstream("INFO"))["api"]["total"]
            request = json.dumps({"seq": 1, "next_by_subj": ROOM, "batch": 50}).encode()
            for _ in range(100):
                await query.client.publish(f"{API}.DIRECT.GET.ROOMS", request, reply=reply)
            # The answer to this one comes after all of those.
            assert len(await next_by_subject(query, ROOM, 1, 50)) == 50
            assert (await anybody.jetstream("INFO"))["api"]["total"] - before <= 2
    finally:
        server.stop()


@pytest.mark.parametrize("call", ["STREAM.DELETE.ROOMS", "STREAM.PURGE.ROOMS"])
async def test_a_consumer_that_delivers_to_the_api_changes_nothing(nats: EmbeddedNats, call: str) -> None:
    """Nor does a permission cover where a projector has messages delivered."""
    name = f"projector-{call.split('.')[1].lower()}"
    async with broker_as(nats, "command") as command, broker_as(nats, "projector") as projector:
        await ensure_stream(command, StreamSettings())
        await command.client.request(ROOM, b"before it", timeout=5)
        before = await stream_state(command)
        config = {
            "name": name,
            "ack_policy": "none",
            "deliver_policy": "all",
            "filter_subject": FILTER,
            "deliver_subject": f"{API}.{call}",
            "inactive_threshold": 60_000_000_000,
        }
        body = {"stream_name": "ROOMS", "action": "create", "config": config}
        with suppress(JetStreamError):
            await projector.jetstream(f"CONSUMER.CREATE.ROOMS.{name}.{FILTER}", body)
        await command.client.request(ROOM, b"delivered", timeout=5)
        await projector.client.flush(5)
        await command.client.request(ROOM, b"and after it", timeout=5)
        after = await stream_state(command)
        assert before is not None
        assert after is not None
        assert (after.identity, after.first_seq) == (before.identity, before.first_seq)
        assert after.last_seq == before.last_seq + 2


async def test_a_consumer_that_nobody_reads_by_goes_by_itself(nats: EmbeddedNats) -> None:
    """Whoever has a projector's key can make as many as the stream takes, durable ones, too."""
    async with broker_as(nats, "command") as command, broker_as(nats, "projector") as projector:
        await ensure_stream(command, StreamSettings())

        async def create(name: str, **more: Any) -> dict[str, Any]:
            config = {"name": name, "durable_name": name, "ack_policy": "none", "filter_subject": FILTER, **more}
            body = {"stream_name": "ROOMS", "action": "create", "config": config}
            return (await projector.jetstream(f"CONSUMER.CREATE.ROOMS.{name}.{FILTER}", body))["config"]

        assert (await create("thiefs"))["inactive_threshold"] == 60 * 10**9
        with pytest.raises(JetStreamError, match="inactive threshold exceeds"):
            await create("for_longer", inactive_threshold=61 * 10**9)


async def test_a_consumer_cannot_deliver_into_the_stream(nats: EmbeddedNats) -> None:
    async with broker_as(nats, "command") as command, broker_as(nats, "projector") as projector:
        await ensure_stream(command, StreamSettings())
        config = {"name": "projector-in", "ack_policy": "none", "filter_subject": FILTER, "deliver_subject": ROOM}
        with pytest.raises(JetStreamError, match="cycle"):
            await projector.jetstream(
                f"CONSUMER.CREATE.ROOMS.projector-in.{FILTER}",
                {"stream_name": "ROOMS", "action": "create", "config": config},
            )


@pytest.mark.parametrize(
    "change",
    [
        {"max_msgs": 1},
        {"max_msgs_per_subject": 1},
        {"max_bytes": 1},
        {"max_msg_size": 1},
        {"max_age": 1_000_000_000, "duplicate_window": 100_000_000},
        {"discard": "new", "max_msgs": 1, "max_msgs_per_subject": 1, "discard_new_per_subject": True},
        {"retention": "interest"},
        {"subjects": ["rooms.*.ws_dev.*", "relay.>"]},
        {"subject_transform": {"src": "rooms.>", "dest": "rooms.1.>"}},
        {"republish": {"src": "rooms.>", "dest": "projected.>"}},
        {"sources": [{"name": "OTHER"}]},
        {"no_ack": True},
        {"allow_direct": False},
        {"allow_atomic": False},
        {"allow_batched": True},
        {"max_consumers": 1},
        {"consumer_limits": {"max_ack_pending": 1}},
        {"metadata": {"runroom-epoch": "abc", "runroom-rewound-to": "0"}},
        {"metadata": {"runroom-epoch": "0", "runroom-rewound-to": "-1"}},
        {"metadata": {"runroom-epoch": "999999999999999999", "runroom-rewound-to": "0"}},
        {"first_seq": 1_000_000},
    ],
    ids=lambda change: ", ".join(change),
)
async def test_what_the_key_of_the_relay_can_change_of_the_stream_is_put_right(
    nats: EmbeddedNats, change: dict[str, Any]
) -> None:
    async with broker_as(nats, "command") as command:
        state = await ensure_stream(command, StreamSettings())
        before = await _configuration(command)
        await command.jetstream("STREAM.UPDATE.ROOMS", {**before, **change})
        assert await _configuration(command) != before
        after = await ensure_stream(command, StreamSettings())
        assert after.identity == state.identity
        assert await _configuration(command) == before


@pytest.mark.parametrize("change", [{"deny_delete": False}, {"deny_purge": False}, {"allow_rollup_hdrs": True}])
async def test_what_keeps_messages_in_the_stream_cannot_be_changed(nats: EmbeddedNats, change: dict[str, Any]) -> None:
    async with broker_as(nats, "command") as command:
        await ensure_stream(command, StreamSettings())
        with pytest.raises(JetStreamError, match=r"cancel deny|purge permission"):
            await command.jetstream("STREAM.UPDATE.ROOMS", {**await _configuration(command), **change})


async def test_a_setting_of_the_stream_is_that_of_a_stream_there_is(
    nats: EmbeddedNats, capsys: pytest.CaptureFixture[str]
) -> None:
    """But that one server makes no three copies: the rest is as it is set."""
    async with broker_as(nats, "command") as command:
        await ensure_stream(command, StreamSettings())
        async with asyncio.timeout(10):
            while "replicas > 1 not supported" not in capsys.readouterr().out:
                await ensure_stream(command, StreamSettings(max_age_seconds=3600, replicas=3))
                await asyncio.sleep(0.1)
        found = await _configuration(command)
        assert (found["max_age"], found["num_replicas"]) == (3600 * 10**9, 1)
        await ensure_stream(command, StreamSettings())


async def test_what_the_key_of_the_relay_can_do_for_good(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It can have the stream deleted, as what is published again may ask for that, and close it. The relay makes the
    stream again; one that was closed wants an administrator, and the relay says so."""
    server = EmbeddedNats(tmp_path / "nats", users=USERS_FILE.read_text())
    server.start()
    try:
        async with broker_as(server, "command") as command:
            first = await ensure_stream(command, StreamSettings())
            before = await _configuration(command)
            republish = {"src": "rooms.*.*.*", "dest": f"{API}.STREAM.{{{{wildcard(2)}}}}.{{{{wildcard(3)}}}}"}
            await command.jetstream("STREAM.UPDATE.ROOMS", {**before, "republish": republish})
            await command.client.publish("rooms.1.DELETE.ROOMS", b"")
            async with asyncio.timeout(10):
                while await stream_state(command) is not None:
                    await asyncio.sleep(0.02)
            second = await ensure_stream(command, StreamSettings())
            assert second.identity != first.identity
            assert await _configuration(command) == before
            await command.jetstream("STREAM.UPDATE.ROOMS", {**before, "sealed": True})
            async with asyncio.timeout(10):
                while "can not unseal a sealed stream" not in capsys.readouterr().out:
                    await ensure_stream(command, StreamSettings())
                    await asyncio.sleep(0.1)
            assert b"sealed" in (await command.client.request(ROOM, b"more", timeout=5)).data
    finally:
        server.stop()


async def test_what_a_stream_was_made_with_and_cannot_be_changed_keeps_nothing_else_as_it_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server = EmbeddedNats(tmp_path / "nats", users=USERS_FILE.read_text())
    server.start()
    try:
        async with broker_as(server, "command") as command:
            made = {"name": "ROOMS", "subjects": ["rooms.>"], "storage": "memory", "max_msgs": 5}
            await command.jetstream("STREAM.CREATE.ROOMS", {**made, "allow_msg_counter": True, "allow_direct": True})
            await ensure_stream(command, StreamSettings())
            found = await _configuration(command)
            assert (found["max_msgs"], found["deny_delete"], found["allow_atomic"]) == (-1, True, True)
            assert (found["storage"], found["allow_msg_counter"]) == ("memory", True)
            async with asyncio.timeout(10):
                while "changes=['allow_msg_counter', 'storage']" not in capsys.readouterr().out:
                    await ensure_stream(command, StreamSettings())
                    await asyncio.sleep(0.1)
    finally:
        server.stop()


async def _configuration(broker: Broker) -> dict[str, Any]:
    config: dict[str, Any] = (await broker.jetstream("STREAM.INFO.ROOMS"))["config"]
    # Which version of the API the server needs for it.
    return {**config, "metadata": {name: of for name, of in config["metadata"].items() if not name.startswith("_nats")}}


async def test_query_hears_what_the_others_say(nats: EmbeddedNats) -> None:
    async with (
        broker_as(nats, "command") as command,
        broker_as(nats, "projector") as projector,
        broker_as(nats, "query") as query,
    ):
        await ensure_stream(command, StreamSettings())
        heard: asyncio.Queue[tuple[str, bytes]] = asyncio.Queue()
        for subject in (ROOM, "projected.ws_dev.*", RELAY_FILLED_SUBJECT):
            await query.listen(subject, lambda subject, _reply, _headers, data: heard.put_nowait((subject, data)))
        await query.client.flush(5)
        await command.client.request(ROOM, b"live", timeout=5)
        await command.client.publish(RELAY_FILLED_SUBJECT, b"filled")
        await projector.client.publish("projected.ws_dev.lobby", b"moved")
        async with asyncio.timeout(10):
            assert {await heard.get() for _ in range(3)} == {
                (ROOM, b"live"),
                ("projected.ws_dev.lobby", b"moved"),
                (RELAY_FILLED_SUBJECT, b"filled"),
            }


@pytest.mark.parametrize("who", ["nobody", "somebody with a key of his own", "somebody with another's name"])
async def test_strangers_are_not_let_in(nats: EmbeddedNats, who: str) -> None:
    mine = UserKey(new_seed())
    public = {"nobody": None, "somebody with a key of his own": mine.public}.get(
        who, UserKey(nats.seed_file("query").read_text()).public
    )
    client = MessagingClient(public_key=public)
    try:
        with pytest.raises(NatsError, match="Authorization Violation"):
            await client.connect(nats.url, signature_cb=mine.sign if public else None, allow_reconnect=False)
    finally:
        await client.close()


async def test_what_the_server_is_told_lets_nobody_in(nats: EmbeddedNats) -> None:
    config = (nats.data_dir / "nats.conf").read_text()
    for user in USERS:
        seed = nats.seed_file(user)
        assert seed.stat().st_mode & 0o777 == 0o600
        assert seed.read_text().strip() not in config


async def test_a_service_that_is_refused_says_so_once_and_is_let_in_later(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server = EmbeddedNats(tmp_path / "nats", users=USERS_FILE.read_text())
    server.start()
    seed = tmp_path / "mine.seed"
    seed.write_text(new_seed())
    try:
        async with Broker(server.url, name="runroom-query", access=NatsAccess(nkey_seed_file=seed)) as refused:
            refused.start()
            async with asyncio.timeout(10):
                while "Authorization Violation" not in (said := capsys.readouterr().out):
                    await asyncio.sleep(0.05)
            await asyncio.sleep(1.0)
            assert "Authorization" not in capsys.readouterr().out
            assert seed.read_text() not in said
            with pytest.raises(BrokerUnavailableError):
                _ = refused.client
            await asyncio.to_thread(server.stop)
            server.seed_file("query").write_text(seed.read_text())
            await asyncio.to_thread(server.start)
            async with asyncio.timeout(10):
                await refused.wait_connected()
    finally:
        server.stop()


async def test_a_user_with_a_password_and_one_in_the_url(tmp_path: Path) -> None:
    server = EmbeddedNats(tmp_path / "nats", users="authorization { users: [{ user: me, password: 'secret' }] }\n")
    server.start()
    try:
        given = NatsAccess(user="me", password="secret")
        for url, access in (
            (server.url, given),
            (server.url.replace("//", "//me:secret@"), NatsAccess()),
        ):
            async with Broker(url, name="test", access=access) as broker:
                broker.start()
                async with asyncio.timeout(10):
                    await broker.wait_connected()
    finally:
        server.stop()


async def test_services_have_no_more_rights_where_tests_have_all(nats_server: EmbeddedNats) -> None:
    """The servers of all other tests let strangers in: a service is not to be taken for one."""

    async def publish(client: MessagingClient, subject: str) -> None:
        await client.publish(subject, b"")

    assert await refused(nats_server, "query", [ROOM, f"{API}.DIRECT.GET.ROOMS"], publish) == {ROOM}
