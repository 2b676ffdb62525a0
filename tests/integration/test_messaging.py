"""Listening to messages as they come, beside the library's own subscriptions."""

import asyncio
from contextlib import suppress
from urllib.parse import urlparse

import pytest
import uvloop
from nats.aio.msg import Msg
from nats.errors import ConnectionReconnectingError, FlushTimeoutError, NoRespondersError

from deploy.local import EmbeddedNats
from shared.contracts.subjects import HEADER_STREAM_SEQ, stream_seq_in
from shared.messaging.broker import Broker
from shared.messaging.client import MessagingClient, Outgoing, header_block, parse_headers
from shared.messaging.transport import Transport
from tests.support.proxy import running_proxy, through

MUCH = [Outgoing("much", b"", b"x" * 1_000_000)] * 24
"""More than what is on its way to a server that does not read can hold."""


async def test_a_listener_hears_what_a_subscriber_hears_until_it_is_unsubscribed(fresh_nats: EmbeddedNats) -> None:
    async with Broker(fresh_nats.url, name="test") as broker:
        broker.start()
        await broker.wait_connected()
        heard: list[tuple[str, str, dict[str, str], bytes]] = []
        came: list[tuple[str, str, dict[str, str], bytes]] = []

        def listen(subject: str, reply: str, headers: bytes, payload: bytes) -> None:
            heard.append((subject, reply, parse_headers(headers), payload))

        async def receive(message: Msg) -> None:
            came.append((message.subject, message.reply, dict(message.headers or {}), message.data))

        listening = await broker.listen("talk.*", listen)
        await broker.client.subscribe("talk.*", cb=receive)

        async def say(number: int) -> None:
            headers = {HEADER_STREAM_SEQ: str(number), "Name": "zoë"} if number % 2 else None
            payload = b"x" * (number * 100_000)
            await broker.client.publish(
                f"talk.{number}", payload, reply="talk.back" if number % 3 else "", headers=headers
            )

        async def wait_for(count: int) -> None:
            async with asyncio.timeout(10):
                # Which of the two is sent a message first is up to the server.
                while len(came) < count or len(heard) < min(count, 11):
                    await asyncio.sleep(0.01)

        for number in range(10):
            await say(number)
        await wait_for(10)
        assert heard == came
        assert [len(payload) for *_, payload in heard] == [number * 100_000 for number in range(10)]

        again = asyncio.Event()

        async def on_connected() -> None:
            again.set()

        broker.on_connected(on_connected)
        await broker.reconnect()
        async with asyncio.timeout(10):
            await again.wait()
        await say(1)
        await wait_for(11)
        assert heard == came

        await listening.unsubscribe()
        await say(1)
        await wait_for(12)
        assert len(heard) == 11
        assert broker.client.raw_handlers == {}


async def test_a_flood_of_messages_that_are_not_to_be_read_is_a_few_lines(
    fresh_nats: EmbeddedNats, capsys: pytest.CaptureFixture[str]
) -> None:
    async with Broker(fresh_nats.url, name="test") as broker:
        broker.start()
        await broker.wait_connected()
        heard = 0

        def fail(*_: object) -> None:
            nonlocal heard
            heard += 1
            raise LookupError

        await broker.listen("flood", fail)
        for _ in range(1000):
            await broker.client.publish("flood", b"")
        async with asyncio.timeout(10):
            while heard < 1000:
                await broker.client.flush(5)
    assert 1 <= capsys.readouterr().out.count("LookupError") <= 100


async def test_a_batch_is_sent_as_it_is_and_its_last_message_is_answered(fresh_nats: EmbeddedNats) -> None:
    async with Broker(fresh_nats.url, name="test") as broker:
        broker.start()
        await broker.wait_connected()
        came: list[tuple[str, dict[str, str], bytes]] = []

        async def receive(message: Msg) -> None:
            came.append((message.subject, dict(message.headers or {}), message.data))
            if message.reply:
                await message.respond(f"{len(came)}".encode())

        await broker.client.subscribe("batch.*", cb=receive)
        batch = [
            Outgoing(f"batch.{number}", header_block({"Number": str(number), "Name": "zoë"}), b"\r\n" * number)
            for number in range(100)
        ]
        assert await broker.client.request_all(batch, 2.0) == b"100"
        assert await broker.client.request_all(batch[:1], 2.0) == b"101"
        assert came[:100] == [
            (f"batch.{number}", {"Number": str(number), "Name": "zoë"}, b"\r\n" * number) for number in range(100)
        ]


async def test_a_request_ends_with_the_connection_it_was_made_on(fresh_nats: EmbeddedNats) -> None:
    async with Broker(fresh_nats.url, name="test") as broker:
        broker.start()
        await broker.wait_connected()
        await broker.listen("deaf", lambda *_: None)
        message = Outgoing("deaf", header_block({}), b"")
        with pytest.raises(TimeoutError):
            await broker.client.request_all([message], 0.05)
        with pytest.raises(NoRespondersError):
            await broker.client.request_all([message._replace(subject="nobody")], 2.0)
        asking = asyncio.create_task(broker.client.request_all([message], 60.0))
        await asyncio.sleep(0.05)
        await broker.reconnect()
        with pytest.raises(ConnectionReconnectingError):
            async with asyncio.timeout(10):
                await asking


def test_what_is_written_to_a_connection_that_was_reset_is_lost_with_it(fresh_nats: EmbeddedNats) -> None:
    """On the services' event loop, whose own transports do not take it."""
    uvloop.run(check_resets(fresh_nats))


async def check_resets(nats: EmbeddedNats) -> None:
    async with running_proxy(nats.port) as proxy, asyncio.timeout(10):
        transport = Transport()
        await transport.connect(urlparse(through(proxy, nats.url)), 65536, 2)
        assert (await transport.readline()).startswith(b"INFO")
        proxy.cut(by_reset=True)
        with suppress(ConnectionResetError):
            assert await transport.read(1) == b""
        transport.write(b"PING\r\n")
        transport.writelines([b"PING\r\n"])
        with pytest.raises(ConnectionResetError):
            await transport.drain()


async def test_a_server_that_reads_nothing_is_left_for_another(fresh_nats: EmbeddedNats) -> None:
    async with running_proxy(fresh_nats.port) as proxy:
        client = MessagingClient()
        lost, again = asyncio.Event(), asyncio.Event()

        async def on_disconnected() -> None:
            lost.set()

        async def on_reconnected() -> None:
            again.set()

        await client.connect(
            [through(proxy, fresh_nats.url), fresh_nats.url],
            dont_randomize=True,
            ping_interval=0.3,  # pyright: ignore[reportArgumentType]  # seconds; fractions are fine
            disconnected_cb=on_disconnected,
            reconnected_cb=on_reconnected,
        )
        with pytest.raises(NoRespondersError):
            await client.request_all(MUCH[:1], 2.0)
        proxy.hold()
        async with asyncio.timeout(10):
            with pytest.raises(TimeoutError):
                await client.request_all(MUCH, 0.05)
            # As many as a service does in the time that it takes to notice.
            for _ in range(1000):
                await (await client.subscribe_raw("many", lambda *_: None)).unsubscribe()
            await lost.wait()
            await again.wait()
            await client.flush(5)
            await client.close()


async def test_a_request_to_a_server_that_reads_nothing_ends_in_its_time(fresh_nats: EmbeddedNats) -> None:
    async with running_proxy(fresh_nats.port) as proxy, Broker(through(proxy, fresh_nats.url), name="test") as broker:
        broker.start()
        await broker.wait_connected()
        with pytest.raises(NoRespondersError):
            await broker.client.request_all(MUCH[:1], 2.0)
        proxy.hold()
        for _ in range(2):  # the second waits for the first to be sent
            asking = asyncio.create_task(broker.client.request_all(MUCH, 0.1))
            # Sooner than the connection is found to be lost.
            assert asking in (await asyncio.wait({asking}, timeout=5))[0]
            assert isinstance(asking.exception(), TimeoutError)


async def test_a_request_to_a_server_that_reads_nothing_ends_with_the_connection(fresh_nats: EmbeddedNats) -> None:
    async with running_proxy(fresh_nats.port) as proxy, Broker(through(proxy, fresh_nats.url), name="test") as broker:
        broker.start()
        await broker.wait_connected()
        proxy.hold()
        asking = asyncio.create_task(broker.client.request_all(MUCH, 60.0))
        await asyncio.sleep(0.05)
        await broker.reconnect()
        with pytest.raises(ConnectionReconnectingError):
            async with asyncio.timeout(10):
                await asking
        proxy.release()
        await broker.reach(10)


async def test_a_server_that_reads_nothing_holds_up_no_stop(fresh_nats: EmbeddedNats) -> None:
    async with running_proxy(fresh_nats.port) as proxy:
        broker = Broker(through(proxy, fresh_nats.url), name="test")
        broker.start()
        await broker.wait_connected()
        proxy.hold()
        asking = asyncio.create_task(broker.client.request_all(MUCH, 60.0))
        await asyncio.sleep(0.05)

        async def publish() -> None:
            for message in MUCH:
                await broker.client.publish(message.subject, message.payload)

        with pytest.raises(TimeoutError):
            await asyncio.wait_for(publish(), 0.05)
        async with asyncio.timeout(10):
            await broker.close()
        with pytest.raises(ConnectionReconnectingError):
            await asking


async def test_attempts_to_connect_that_came_to_nothing_leave_nothing_open(fresh_nats: EmbeddedNats) -> None:
    async with running_proxy(fresh_nats.port) as proxy:
        client = MessagingClient()
        failed: asyncio.Queue[Exception] = asyncio.Queue()
        await client.connect(
            through(proxy, fresh_nats.url),
            connect_timeout=0.05,  # pyright: ignore[reportArgumentType]  # seconds; fractions are fine
            reconnect_time_wait=0.05,  # pyright: ignore[reportArgumentType]
            max_reconnect_attempts=-1,
            error_cb=failed.put,
        )
        proxy.hold()
        await client.force_reconnect()
        async with asyncio.timeout(10):
            while not isinstance(await failed.get(), TimeoutError):
                pass
            for _ in range(9):
                await failed.get()
            # The last one, and the one before it if the proxy has not seen yet that it has ended.
            assert proxy.cut() <= 2
            await client.close()


async def test_what_was_published_before_a_stop_arrives(fresh_nats: EmbeddedNats) -> None:
    async with Broker(fresh_nats.url, name="test") as hearing:
        hearing.start()
        await hearing.wait_connected()
        heard: list[bytes] = []
        await hearing.listen("last", lambda _subject, _reply, _headers, payload: heard.append(payload))
        await hearing.client.flush(5)
        async with Broker(fresh_nats.url, name="test") as broker:
            broker.start()
            await broker.wait_connected()
            for number in range(20):
                await broker.client.publish("last", b"%d" % number * 100_000)
        await hearing.client.flush(5)
        assert heard == [b"%d" % number * 100_000 for number in range(20)]


async def test_a_server_that_answers_late_is_heard_at_once(fresh_nats: EmbeddedNats) -> None:
    """Also when nobody waits for the answer any more."""
    async with running_proxy(fresh_nats.port) as proxy, Broker(through(proxy, fresh_nats.url), name="test") as broker:
        broker.start()
        await broker.wait_connected()
        proxy.hold()
        with pytest.raises(FlushTimeoutError):
            await broker.client.flush(1)
        proxy.release()
        await broker.client.flush(2)
        heard = asyncio.Event()

        async def hear(_: Msg) -> None:
            heard.set()

        await broker.client.subscribe("late", cb=hear)
        await broker.client.publish("late", b"")
        async with asyncio.timeout(2):
            await heard.wait()


def test_a_header_cannot_begin_another_line() -> None:
    assert header_block({"A": "1", "B": "x: y"}) == b"NATS/1.0\r\nA: 1\r\nB: x: y\r\n\r\n"
    for value in ("1\r\nB: 2", "1\nB: 2", "1\r"):
        with pytest.raises(ValueError, match="line break"):
            header_block({"A": value})


def test_the_seq_is_found_among_headers_as_they_came() -> None:
    assert stream_seq_in(b"NATS/1.0\r\nNats-Msg-Id: x\r\nRunroom-Stream-Seq: 41\r\n\r\n") == 41
    assert stream_seq_in(b"NATS/1.0\r\nRunroom-Stream-Seq:41\r\n\r\n") == 41
    for raw in (
        b"",
        b"NATS/1.0\r\n\r\n",
        b"NATS/1.0\r\nX-Runroom-Stream-Seq: 4\r\n\r\n",
        b"NATS/1.0\r\nRunroom-Stream-Seq: \r\n\r\n",
    ):
        assert stream_seq_in(raw) == 0
    for seq in ("x", "-1", "1.5", "9" * 30):
        assert stream_seq_in(f"NATS/1.0\r\nRunroom-Stream-Seq: {seq}\r\n\r\n".encode()) == 0
