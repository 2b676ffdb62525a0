"""The last event of a subject behind any number of messages that are none."""

import json
from collections.abc import AsyncGenerator
from uuid import uuid4

import pytest

from deploy.local import EmbeddedNats
from shared.messaging.broker import Broker, BrokerUnavailableError
from shared.messaging.direct_get import StoredMessage
from shared.messaging.look_back import last_events_up_to, look_back
from shared.messaging.stream import StreamSettings, ensure_stream


@pytest.fixture(scope="module")
async def broker(fresh_nats: EmbeddedNats) -> AsyncGenerator[Broker, None]:
    async with Broker(fresh_nats.url, name="test") as broker:
        broker.start()
        await broker.wait_connected()
        await ensure_stream(broker, StreamSettings())
        yield broker


def read(message: StoredMessage) -> str | None:
    return message.headers.get("Event")


async def write(broker: Broker, subject: str, plan: str) -> int:
    """A letter is an event, a dot none, and a blank somebody else's message; the position of the last one."""
    position = 0
    for letter in plan:
        room = "rooms.1.ws.others" if letter == " " else subject
        headers = {"Event": letter} if letter.isalpha() else None
        position = json.loads((await broker.client.request(room, b"", headers=headers)).data)["seq"]
    return position


@pytest.mark.parametrize(
    "plan",
    ["a.", "ab.", "a   .", "a....", "ab" + "." * 100, "a.b..c" + "." * 9, "a...b.", "ab" * 40 + "." * 70 + "c.."],
)
async def test_the_last_event_is_found(broker: Broker, plan: str) -> None:
    subject = f"rooms.1.ws.{uuid4().hex}"
    stray = await write(broker, subject, plan)
    last = plan.replace(".", "").strip()[-1]
    assert await look_back(broker, subject, stray, read) == (last, stray)
    first = stray - len(plan) + 1
    # What is known already is not looked through again.
    assert await look_back(broker, subject, stray, read, behind=first + plan.index(last)) == (None, stray)
    events = await last_events_up_to(broker, [subject, "rooms.1.ws.nobody"], read, stray)
    assert events == ({subject: last}, set(), set())


async def test_where_there_is_no_event_none_is_found(broker: Broker) -> None:
    subject = f"rooms.1.ws.{uuid4().hex}"
    stray = await write(broker, subject, "..... ..")
    assert await look_back(broker, subject, stray, read) == (None, stray)
    assert await last_events_up_to(broker, [subject], read, stray) == ({}, set(), set())


async def test_a_search_that_comes_to_its_bound_says_how_far_and_the_next_goes_on_there(broker: Broker) -> None:
    subject = f"rooms.1.ws.{uuid4().hex}"
    stray = await write(broker, subject, "ab" + "." * 30 + "c" + "." * 30)
    begin = behind = stray - 63
    found: list[str] = []
    while behind < stray:
        # No more than one message a page, and five pages.
        last, up_to = await look_back(broker, subject, stray, read, behind=behind, most_pages=5, most_bytes=1)
        assert up_to > behind
        behind = up_to
        found += [last] if last is not None else []
    assert found[-1] == "c"
    assert stray - begin == 63


async def test_what_does_not_reach_the_stray_is_not_believed(broker: Broker) -> None:
    """As from a replica that is behind."""
    subject = f"rooms.1.ws.{uuid4().hex}"
    stray = await write(broker, subject, "a.")
    with pytest.raises(BrokerUnavailableError):
        await look_back(broker, subject, stray + 10, read)


async def test_a_search_that_has_no_more_time_says_what_it_has_not_come_to(broker: Broker) -> None:
    subjects = [f"rooms.1.ws.{uuid4().hex}" for _ in range(3)]
    position = [await write(broker, subject, "ab..") for subject in subjects][-1]
    asked = 0

    async def has_no_time() -> bool:
        nonlocal asked
        asked += 1
        return False

    found: dict[str, str] = {}
    left = subjects
    while left:
        events = await last_events_up_to(broker, left, read, position, go_on=has_no_time)
        assert events.found.keys() ^ events.left == set(left)
        found |= events.found
        left = sorted(events.left)
    assert found == dict.fromkeys(subjects, "b")
    assert asked > len(subjects)
