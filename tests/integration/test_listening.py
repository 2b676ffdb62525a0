"""A service hears the pings of other instances, and listens no more where something else is sent there."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from deploy.local import EmbeddedNats
from shared.contracts.subjects import RELAY_WAKE_SUBJECT
from shared.messaging.broker import Broker
from shared.messaging.listening import Listening

MOST_BYTES = 1000


async def by_an_answer(broker: Broker) -> None:
    await broker.client.publish(RELAY_WAKE_SUBJECT, b"", headers={"Nats-Sequence": "1"})


async def by_a_question(broker: Broker) -> None:
    await broker.client.publish(RELAY_WAKE_SUBJECT, b"", reply="_INBOX.thief")


async def by_its_size(broker: Broker) -> None:
    await broker.client.publish(RELAY_WAKE_SUBJECT, b"x" * (MOST_BYTES + 1))


@pytest.mark.parametrize("send", [by_an_answer, by_a_question, by_its_size])
async def test_nothing_is_heard_after_what_is_no_ping_also_on_the_next_connection(
    fresh_nats: EmbeddedNats, send: Callable[[Broker], Awaitable[None]]
) -> None:
    heard: list[bytes] = []

    async def ping() -> None:
        await other.client.publish(RELAY_WAKE_SUBJECT, b"ping")
        await other.client.flush(5)
        await broker.client.flush(5)

    async with Broker(fresh_nats.url, name="relay") as broker, Broker(fresh_nats.url, name="other") as other:
        for one in (broker, other):
            one.start()
            await one.wait_connected()
        listening = Listening(broker, RELAY_WAKE_SUBJECT, MOST_BYTES, heard.append)
        await listening.go_on()
        await broker.client.flush(5)
        await ping()
        assert heard == [b"ping"]
        await send(other)
        # As if it had been one that says nothing.
        async with asyncio.timeout(10):
            while heard != [b"ping", b""]:
                await asyncio.sleep(0.02)
        await listening.go_on()
        await broker.client.flush(5)
        await ping()
        await broker.reconnect()
        async with asyncio.timeout(10):
            while not broker.is_connected:
                await asyncio.sleep(0.02)
        await listening.go_on()
        await ping()
        assert heard == [b"ping", b""]
        await listening.end()
