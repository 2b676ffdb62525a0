"""What the relay tells of the stream is heard, and nothing that others send is taken for it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
from prometheus_client import REGISTRY

from deploy.local import EmbeddedNats
from deploy.local.nats import USERS_FILE
from services.query.feed.filled import Filled
from shared.contracts.filled import Told, telling
from shared.contracts.subjects import RELAY_FILLED_SUBJECT
from shared.messaging.broker import Broker
from shared.messaging.stream import StreamSettings, ensure_stream
from tests.support.servers import broker_as, reload

from .test_hub import settled

IDENTITY, OTHER = "2026-01-31T12:00:00.5Z/0", "2026-01-31T12:00:00.5Z/1"
RELAY, PAUSED = "0" * 16, "1" * 16
TOLD = telling(Told(IDENTITY, RELAY))


@pytest.fixture
def nats(tmp_path: Path) -> Iterator[EmbeddedNats]:
    """With the users that there are."""
    server = EmbeddedNats(tmp_path / "nats", users=USERS_FILE.read_text())
    server.start()
    yield server
    server.stop()


@pytest.fixture
async def relay(nats: EmbeddedNats) -> AsyncIterator[Broker]:
    async with broker_as(nats, "command") as broker:
        yield broker


@pytest.fixture
async def query(nats: EmbeddedNats) -> AsyncIterator[Broker]:
    async with broker_as(nats, "query") as broker:
        yield broker


def ignored() -> float:
    return REGISTRY.get_sample_value("runroom_query_misplaced_total") or 0.0


async def tell(broker: Broker, identity: str, teller: str = RELAY) -> None:
    await broker.client.publish(RELAY_FILLED_SUBJECT, telling(Told(identity, teller)))
    await broker.client.flush(5)


async def until(broker: Broker, asking: asyncio.Task[str | None], send: Callable[[], bytes]) -> str | None:
    """The answer, with a message as often as it takes: the first may come before there is a subscription."""
    while not asking.done():
        await broker.client.publish(RELAY_FILLED_SUBJECT, send())
        await broker.client.flush(5)
        await asyncio.sleep(0.01)
    return asking.result()


async def test_what_the_relay_tells_next_is_heard_also_after_a_reconnect(
    nats: EmbeddedNats, relay: Broker, query: Broker
) -> None:
    filled = Filled(query)
    for number, identity in enumerate((IDENTITY, OTHER)):
        if number:
            await asyncio.to_thread(nats.stop)
            await settled(lambda: not query.is_connected)
            assert await filled.identity() is None
            await asyncio.to_thread(nats.start)
            await asyncio.gather(query.reach(10), relay.reach(10))
        asking = [asyncio.create_task(filled.identity()) for _ in range(3)]
        assert await until(relay, asking[0], lambda: telling(Told(identity, RELAY))) == identity  # noqa: B023
        assert await asyncio.gather(*asking) == [identity] * 3


async def test_it_is_heard_again_once_the_users_of_nats_are_right(
    nats: EmbeddedNats, relay: Broker, query: Broker
) -> None:
    """NATS ends what is not allowed any more, and no connection with it."""
    config = nats.data_dir / "nats.conf"
    right = config.read_text()
    before, told, after = right.rpartition(f'"{RELAY_FILLED_SUBJECT}"\n')  # query's
    filled = Filled(query)
    assert await until(relay, asyncio.create_task(filled.identity()), lambda: TOLD) == IDENTITY
    reload(nats, f"{before}{after}")
    async with asyncio.timeout(10):
        while await until(relay, asyncio.create_task(filled.identity()), lambda: TOLD) is not None:
            await asyncio.sleep(0.1)
    reload(nats, f"{before}{told}{after}")
    async with asyncio.timeout(15):
        while await until(relay, asyncio.create_task(filled.identity()), lambda: TOLD) != IDENTITY:
            await asyncio.sleep(0.1)
    assert query.is_connected


async def test_nobody_hears_anything_where_no_relay_tells(query: Broker) -> None:
    filled = Filled(query)
    assert await asyncio.gather(filled.identity(), filled.identity_since()) == [None, None]


async def test_a_later_question_of_the_relay_is_one_between_two_messages_of_the_same(
    relay: Broker, query: Broker
) -> None:
    filled = Filled(query)
    await until(relay, asyncio.create_task(filled.identity()), lambda: TOLD)
    asking = asyncio.create_task(filled.identity_since())
    await asyncio.sleep(0)
    # What another was about to say before it was paused, and what was on its way.
    for identity, teller in ((IDENTITY, PAUSED), (IDENTITY, RELAY)):
        heard = asyncio.create_task(filled.identity())
        await asyncio.sleep(0)
        await tell(relay, identity, teller)
        assert await heard == identity
        await asyncio.sleep(0)
        assert not asking.done()
    await tell(relay, OTHER, RELAY)
    assert await asking == OTHER


async def test_answers_of_the_stream_are_not_taken_for_the_relays_word(relay: Broker, query: Broker) -> None:
    """Whoever has query's key can have them sent there, and what is stored may look like it."""
    await ensure_stream(relay, StreamSettings())
    for _ in range(50):
        await relay.client.request("rooms.1.ws.room", TOLD, timeout=5)
    filled = Filled(query)
    await until(relay, asyncio.create_task(filled.identity()), lambda: TOLD)
    asking, before = asyncio.create_task(filled.identity()), ignored()
    request = json.dumps({"seq": 1, "next_by_subj": "rooms.>", "batch": 50}).encode()
    await query.client.publish("$JS.API.DIRECT.GET.ROOMS", request, reply=RELAY_FILLED_SUBJECT)
    await settled(lambda: ignored() == before + 51)
    await relay.client.publish(RELAY_FILLED_SUBJECT, TOLD, reply="_INBOX.a")
    await relay.client.publish(RELAY_FILLED_SUBJECT, TOLD, headers={"a": "b"})
    await relay.client.publish(RELAY_FILLED_SUBJECT, TOLD + b"\n")
    await relay.client.flush(5)
    await settled(lambda: ignored() == before + 54)
    assert not asking.done()
    await tell(relay, OTHER)
    assert await asking == OTHER
