"""Readers are told that the stream is filled, by whoever leads, and of no stream that is not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from deploy.local import EmbeddedNats
from services.command.relay.filling import Filling
from shared.contracts.filled import Told, told_in
from shared.contracts.subjects import RELAY_FILLED_SUBJECT
from shared.messaging.broker import Broker
from shared.messaging.stream import StreamSettings, StreamState, ensure_stream, mark_filled, stream_state
from tests.support.servers import MigratedDatabases, running_nats

from .deployment import Client, command_service, locked_room, running

Message = tuple[str, str, bytes, bytes]


@pytest.fixture
def nats() -> Iterator[EmbeddedNats]:
    with running_nats() as server:
        yield server


@pytest.fixture
async def broker(nats: EmbeddedNats) -> AsyncIterator[Broker]:
    async with Broker(nats.url, name="test") as broker, asyncio.timeout(60):
        broker.start()
        await broker.wait_connected()
        yield broker


@pytest.fixture
async def heard(broker: Broker) -> asyncio.Queue[Message]:
    heard: asyncio.Queue[Message] = asyncio.Queue()
    await broker.listen(RELAY_FILLED_SUBJECT, lambda *message: heard.put_nowait(message))
    await broker.client.flush(5)
    return heard


async def next_told(heard: asyncio.Queue[Message]) -> Told:
    subject, reply, headers, payload = await heard.get()
    assert (subject, reply, headers) == (RELAY_FILLED_SUBJECT, "", b"")
    told = told_in(payload)
    assert told is not None, payload
    return told


async def stream_other_than(broker: Broker, before: StreamState | None) -> StreamState:
    while (state := await stream_state(broker)) is None or (before and state.identity == before.identity):
        await asyncio.sleep(0.02)
    return state


async def test_the_leader_tells_again_and_again_and_of_the_next_stream_once_that_is_filled(
    migrated_databases: MigratedDatabases,
    nats: EmbeddedNats,
    broker: Broker,
    heard: asyncio.Queue[Message],
    tmp_path: Path,
) -> None:
    dsn = migrated_databases.copy("event_store")
    service = command_service(tmp_path, dsn, nats.url)
    async with running(service), Client([service], "ws") as client:
        await client.tell_run("held", 1)
        first = await stream_other_than(broker, None)
        told = [await next_told(heard) for _ in range(2)]
        assert told == [Told(first.identity.key, told[0].teller)] * 2
        async with locked_room(dsn, "ws", "held"):
            await broker.jetstream("STREAM.DELETE.ROOMS")
            second = await stream_other_than(broker, first)
            assert not second.is_filled
            while not heard.empty():
                assert await next_told(heard) == told[0]
        assert await next_told(heard) == Told(second.identity.key, told[0].teller)
        state = await stream_state(broker)
        assert state is not None
        assert (state.last_seq, state.is_filled) == (4, True)


async def test_nothing_is_told_of_another_stream_than_the_one_that_was_left(
    broker: Broker, heard: asyncio.Queue[Message]
) -> None:
    fillings = [Filling(broker) for _ in range(5)]
    unread, unmarked, other, shorter, right = fillings
    await ensure_stream(broker, StreamSettings())
    await broker.client.request("rooms.1.ws.room", b"", timeout=5)
    state = await stream_state(broker)
    assert state is not None
    for filling in fillings:
        filling.begin(state._replace(is_filled=filling is not unmarked))
        filling.see_page(is_first=True, is_cut=filling is unread, is_last=True)
    # The stream does not say so itself.
    right.tell(state.identity, state.last_seq)
    await broker.client.flush(5)
    await right.end()
    await mark_filled(broker, state.identity)
    again = Filling(broker)
    again.begin(state._replace(is_filled=True))
    again.see_page(is_first=True, is_cut=False, is_last=True)
    for filling, identity, position in (
        (unread, state.identity, state.last_seq),
        (unmarked, state.identity, state.last_seq),
        (other, state.identity._replace(epoch=1), state.last_seq),
        (shorter, state.identity, state.last_seq + 1),
        (again, state.identity, state.last_seq),
    ):
        # Their questions are answered in the order in which they are asked.
        filling.tell(identity, position)
        filling.tell(identity, position)
        await asyncio.sleep(0)
    await next_told(heard)
    for filling in (*fillings, again):
        await filling.end()
    await broker.client.flush(5)
    assert heard.empty()
