"""Listening to messages as they come, beside the library's own subscriptions."""

import asyncio

from nats.aio.msg import Msg

from deploy.local import EmbeddedNats
from shared.contracts.subjects import HEADER_STREAM_SEQ, stream_seq_in
from shared.messaging.broker import Broker
from shared.messaging.client import parse_headers


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
        await broker.subscribe("talk.*", receive)

        async def say(number: int) -> None:
            headers = {HEADER_STREAM_SEQ: str(number), "Name": "zoë"} if number % 2 else None
            payload = b"x" * (number * 100_000)
            await broker.client.publish(
                f"talk.{number}", payload, reply="talk.back" if number % 3 else "", headers=headers
            )

        async def wait_for(count: int) -> None:
            async with asyncio.timeout(10):
                while len(came) < count:
                    await asyncio.sleep(0.01)

        for number in range(10):
            await say(number)
        await wait_for(10)
        assert heard == came
        assert [len(payload) for *_, payload in heard] == [number * 100_000 for number in range(10)]

        await broker.reconnect()
        async with asyncio.timeout(10):
            while not broker.is_connected:
                await asyncio.sleep(0.01)
        await say(1)
        await wait_for(11)
        assert heard == came

        await listening.unsubscribe()
        await say(1)
        await wait_for(12)
        assert len(heard) == 11
        assert broker.client.raw_handlers == {}


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
