"""Reading straight from the stream."""

from collections.abc import AsyncGenerator

import pytest

from deploy.local import EmbeddedNats
from shared.messaging.broker import Broker, BrokerUnavailableError
from shared.messaging.direct_get import last_by_subjects, last_by_subjects_up_to, next_by_leader, next_by_subject
from shared.messaging.stream import StreamSettings, ensure_stream


@pytest.fixture(scope="module")
async def broker(fresh_nats: EmbeddedNats) -> AsyncGenerator[Broker, None]:
    broker = Broker(fresh_nats.url, name="test")
    broker.start()
    await broker.wait_connected()
    await ensure_stream(broker, StreamSettings())
    for number in range(6):
        await broker.client.request(f"rooms.1.ws.room_{number % 2}", str(number).encode(), headers={"N": str(number)})
    yield broker
    await broker.close()


async def test_a_subject_is_read_in_order_from_a_position_on(broker: Broker) -> None:
    found = await next_by_subject(broker, "rooms.1.ws.room_1", 3, 10)
    assert [(m.position, m.data, m.headers["N"]) for m in found] == [(4, b"3", "3"), (6, b"5", "5")]
    assert [m.position for m in await next_by_subject(broker, "rooms.>", 2, 3)] == [2, 3, 4]
    assert await next_by_subject(broker, "rooms.1.ws.nobody", 1, 10) == []
    assert await next_by_subject(broker, "rooms.>", 7, 10) == []


async def test_the_last_of_each_subject(broker: Broker) -> None:
    subjects = ["rooms.1.ws.room_0", "rooms.1.ws.nobody", "rooms.1.ws.room_1"]
    expected = {"rooms.1.ws.room_0": (5, b"4"), "rooms.1.ws.room_1": (6, b"5")}
    for found in (await last_by_subjects(broker, subjects), await last_by_subjects_up_to(broker, subjects, 6)):
        assert {m.subject: (m.position, m.data) for m in found} == expected


async def test_a_replica_that_is_behind_is_not_believed(broker: Broker) -> None:
    with pytest.raises(BrokerUnavailableError):
        await last_by_subjects_up_to(broker, ["rooms.1.ws.room_0"], 7)


async def test_where_nothing_is_found_the_leader_is_asked(broker: Broker) -> None:
    assert await last_by_subjects_up_to(broker, ["rooms.1.ws.nobody", "rooms.1.ws.none"], 7) == []


async def test_the_leaders_answer_is_the_same_message(broker: Broker) -> None:
    (expected,) = await last_by_subjects(broker, ["rooms.1.ws.room_1"])
    found = await next_by_leader(broker, "rooms.1.ws.*", 6)
    assert found is not None
    assert found._replace(headers={}) == expected._replace(headers={})
    assert found.headers["N"] == expected.headers["N"]
    assert await next_by_leader(broker, "rooms.1.ws.*", 7) is None
