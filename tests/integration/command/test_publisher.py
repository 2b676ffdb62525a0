"""The fence: all of a batch right behind the position that was named, or none of it."""

from collections.abc import AsyncGenerator
from uuid import uuid4

import pytest

from deploy.local import EmbeddedNats
from services.command.relay.outbox import UnpublishedEvent
from services.command.relay.publisher import FencedOffError, publish
from shared.contracts.ids import RoomKey
from shared.messaging.broker import Broker, BrokerUnavailableError
from shared.messaging.stream import StreamSettings, ensure_stream, stream_state


@pytest.fixture
async def broker(fresh_nats: EmbeddedNats) -> AsyncGenerator[Broker, None]:
    broker = Broker(fresh_nats.url, name="test")
    broker.start()
    await broker.wait_connected()
    await ensure_stream(broker, StreamSettings())
    yield broker
    await broker.close()


def events(number: int) -> list[UnpublishedEvent]:
    room = RoomKey("ws", uuid4().hex)
    return [UnpublishedEvent(room, n + 1, str(uuid4()), "run.created", None, b"{}") for n in range(number)]


async def position(broker: Broker) -> int:
    state = await stream_state(broker)
    assert state is not None
    return state.last_seq


@pytest.mark.parametrize("number", [1, 2, 1000])
async def test_behind_the_right_position_everything_is_stored(broker: Broker, number: int) -> None:
    before = await position(broker)
    assert await publish(broker, events(number), before) == before + number == await position(broker)


@pytest.mark.parametrize("number", [1, 2, 1000])
@pytest.mark.parametrize("off_by", [-1, 1])
async def test_behind_any_other_position_nothing_is(broker: Broker, number: int, off_by: int) -> None:
    before = await publish(broker, events(3), await position(broker))
    with pytest.raises(FencedOffError):
        await publish(broker, events(number), before + off_by)
    assert await position(broker) == before


@pytest.mark.parametrize("number", [1, 3])
async def test_what_is_on_the_stream_already_is_not_put_there_again(broker: Broker, number: int) -> None:
    batch = events(number)
    after = await publish(broker, batch, await position(broker))
    with pytest.raises(FencedOffError):
        await publish(broker, batch, after)
    assert await position(broker) == after


async def test_without_a_connection_the_outcome_is_unknown(nats_url: str) -> None:
    broker = Broker(nats_url, name="test")
    with pytest.raises(BrokerUnavailableError):
        await publish(broker, events(1), 0)
