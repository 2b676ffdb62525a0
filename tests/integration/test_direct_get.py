"""Reading straight from the stream."""

import asyncio
import os
import signal
from collections.abc import AsyncGenerator
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

import pytest
from nats.aio.msg import Msg
from nats.errors import NoRespondersError

from deploy.local import EmbeddedNats
from shared.contracts.subjects import stream_seq_in, stream_seq_of
from shared.messaging.broker import Broker, BrokerUnavailableError, JetStreamError
from shared.messaging.client import Outgoing
from shared.messaging.direct_get import (
    MisplacedAnswerError,
    StoredMessage,
    following,
    last_by_subjects,
    last_by_subjects_up_to,
    next_by_leader,
    next_by_subject,
)
from shared.messaging.stream import StreamSettings, ensure_stream
from tests.support.servers import CUTS_AT_8_MB, running_nats


def place(message: StoredMessage) -> tuple[str, int]:
    return message.subject, message.position


def whole(message: StoredMessage) -> tuple[str, int, bytes]:
    return message.subject, message.position, message.data


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
    expected = [("rooms.1.ws.room_0", 5, b"4"), ("rooms.1.ws.room_1", 6, b"5")]
    assert await last_by_subjects(broker, subjects, whole) == (expected, 6, [])
    assert await last_by_subjects_up_to(broker, subjects, whole, 6) == (expected, 6, [])


async def test_the_last_of_each_subject_that_is_not_older_than_a_position(broker: Broker) -> None:
    subjects = ["rooms.1.ws.room_0", "rooms.1.ws.nobody", "rooms.1.ws.room_1"]
    assert await last_by_subjects(broker, subjects, whole, start=6) == ([("rooms.1.ws.room_1", 6, b"5")], 6, [])
    assert await last_by_subjects(broker, subjects, whole, start=7) == ([], 6, [])
    assert await last_by_subjects(broker, ["rooms.1.ws.nobody"], whole, start=6) == ([], 0, [])


async def has_no_time() -> bool:
    return False


async def test_what_the_server_leaves_out_of_an_answer_is_asked_for_again() -> None:
    """It ends one that has come to so many bytes, with the newest missing."""
    with running_nats(CUTS_AT_8_MB) as nats:
        async with Broker(nats.url, name="test") as broker:
            broker.start()
            await broker.wait_connected()
            await ensure_stream(broker, StreamSettings())
            subjects = [f"rooms.1.ws.room_{number}" for number in range(12)]
            for number, subject in enumerate(subjects):
                await broker.client.request(subject, str(number).encode() * 1_000_000, timeout=5)
            expected = [(subject, number + 1) for number, subject in enumerate(subjects)]
            asked = [subjects[-1], "rooms.1.ws.nobody", *subjects[:-1]]
            assert await last_by_subjects(broker, asked, place) == (expected, 12, [])
            assert await last_by_subjects_up_to(broker, asked, place, 12) == (expected, 12, [])
            assert await last_by_subjects(broker, asked, place, start=4) == (expected[3:], 12, [])
            some, _, left = await last_by_subjects(broker, asked, place, go_on=has_no_time)
            assert some
            assert left
            assert await last_by_subjects(broker, left, place) == (expected[len(some) :], 12, [])
            found = position = 0
            while messages := await next_by_subject(broker, "rooms.>", position + 1, 1000):
                position = messages[-1].position
                found += len(messages)
            assert found == 12
            # A client that takes in less than is on its way is told so by the server's log, and put off.
            assert "Slow Consumer" not in nats.log_file.read_text()


async def test_a_replica_that_is_behind_is_not_believed(broker: Broker) -> None:
    with pytest.raises(BrokerUnavailableError):
        await last_by_subjects_up_to(broker, ["rooms.1.ws.room_0"], whole, 7)


async def test_where_nothing_is_found_the_leader_is_asked(broker: Broker) -> None:
    assert await last_by_subjects_up_to(broker, ["rooms.1.ws.nobody", "rooms.1.ws.none"], whole, 7) == ([], 7, [])


async def test_the_leaders_answer_is_the_same_message(broker: Broker) -> None:
    ((expected,), *_) = await last_by_subjects(broker, ["rooms.1.ws.room_1"], lambda message: message)
    found = await next_by_leader(broker, "rooms.1.ws.*", 6)
    assert found is not None
    assert found._replace(headers={}) == expected._replace(headers={})
    assert found.headers["N"] == expected.headers["N"]
    assert await next_by_leader(broker, "rooms.1.ws.*", 7) is None


@pytest.mark.parametrize(
    "headers",
    [
        b"X 503\r\n\r\n",
        b"NATS/2.0 204 EOB\r\nNats-UpTo-Sequence: abc\r\n\r\n",
        b"NATS/2.0 404 Message Not Found\r\n\r\n",
        b" NATS/1.0 408 Bad Request\r\n\r\n",
        b"NATS/1.0 413 Too Many Results\r\n\r\n",
        # The server cuts off the last two bytes, whatever they are, and appends its own headers.
        b"NATS/1.0 204 EOB",
        b"NATS/1.0 204 ..",
        b"NATS/2.0 204 EOB\r\nName: value",
        b"NATS/1.0\r\nNats-Subject: rooms.1.ws.nobody\r\nNats-Sequence: 9\r\nNats-Last-Sequence: 9\r\n\r\n",
        b"NATS/1.0\r\nnats-subject: rooms.1.ws.nobody\r\nNATS-SEQUENCE: x\r\nNats-Num-Pending: x\r\n\r\n",
    ],
)
async def test_a_stored_message_is_one_whatever_was_published_as_its_headers(
    fresh_nats: EmbeddedNats, headers: bytes
) -> None:
    subject = f"rooms.1.ws.{uuid4().hex}"
    async with Broker(fresh_nats.url, name="test") as broker:
        broker.start()
        await broker.wait_connected()
        last = await ensure_stream(broker, StreamSettings())
        await broker.client.request_all([Outgoing(subject, headers, b"data"), Outgoing(subject, b"", b"next")], 5)
        first, second = last.last_seq + 1, last.last_seq + 2
        expected = [(subject, first, b"data"), (subject, second, b"next")]
        assert [whole(message) for message in await next_by_subject(broker, subject, 1, 10)] == expected
        found = await following(broker, subject, 1)
        assert found is not None
        assert (whole(found.first), found.number) == (expected[0], 2)
        await broker.client.request_all([Outgoing(subject, headers, b"last")], 5)
        assert await last_by_subjects(broker, [subject], whole) == ([(subject, second + 1, b"last")], second + 1, [])


async def numbers_of(broker: Broker, headers: bytes) -> dict[str, int]:
    """Of one message that is published with these headers, by each road there is to it."""
    room, name = uuid4().hex, uuid4().hex
    subject = f"rooms.1.ws.{room}"
    came: asyncio.Queue[tuple[str, int]] = asyncio.Queue()
    config = {"name": name, "ack_policy": "none", "filter_subject": subject}
    inbox = broker.client.new_inbox()
    for road, listened in (("live", subject), ("consumer", inbox)):

        def hear(_subject: str, _reply: str, raw: bytes, _data: bytes, road: str = road) -> None:
            came.put_nowait((road, stream_seq_in(raw)))

        await broker.listen(listened, hear)
    created = f"CONSUMER.CREATE.ROOMS.{name}.{subject}"
    await broker.jetstream(created, {"stream_name": "ROOMS", "action": "create", "config": config})
    await broker.client.publish(f"$JS.API.CONSUMER.MSG.NEXT.ROOMS.{name}", b'{"batch": 1}', reply=inbox)
    await broker.client.request_all([Outgoing(subject, headers, b"data")], 5)
    async with asyncio.timeout(5):
        numbers = dict([await came.get(), await came.get()])
    (stored,) = await next_by_subject(broker, subject, 1, 10)
    by_leader = await next_by_leader(broker, subject, 1)
    assert by_leader is not None
    return numbers | {"direct get": stream_seq_of(stored.headers), "leader": stream_seq_of(by_leader.headers)}


@pytest.mark.parametrize(
    ("headers", "number"),
    [
        (b"NATS/1.0\r\nRunroom-Stream-Seq: 5\r\n\r\n", 5),
        (b"NATS/1.0\r\nRunroom-Stream-Seq:\t5 \r\n\r\n", 5),
        (b"NATS/2.0 404 x\r\nRunroom-Stream-Seq: 5\r\n\r\n", 5),
        (b"Runroom-Stream-Seq: 5\r\n\r\n", 0),
        # The end that the server cuts off is no end of theirs, or there is none.
        (b"NATS/1.0\r\nRunroom-Stream-Seq: 5\r\nXY", 5),
        (b"NATS/1.0\r\nRunroom-Stream-Seq: 5\r\nRunroom-Stream-Seq", 5),
        (b"NATS/1.0\r\nRunroom-Stream-Seq: 5\r\nRunroom-Stream-Seq: 66\r\nX\n", 66),
        (b"NATS/1.0\r\nRunroom-Stream-Seq: 5\r\nRunroom-Stream-Seq: 6", 0),
        (b"NATS/1.0\r\nRunroom-Stream-Seq: 5\r\nRunroom-Stream-Seq:6\r\n", 0),
        (b"NATS/1.0\r\nRunroom-Stream-Seq: 5\r\n", 0),
        (b"NATS/1.0\r\nRunroom-Stream-Seq: 5", 0),
        # What a language, and not the protocol, takes for a blank.
        (b"NATS/1.0\r\nRunroom-Stream-Seq: \x1c5\r\n\r\n", 0),
        (b"NATS/1.0\r\nRunroom-Stream-Seq: 5\x0b\r\n\r\n", 0),
        ("NATS/1.0\r\nRunroom-Stream-Seq: \u00a05\r\n\r\n".encode(), 0),
        ("NATS/1.0\r\nRunroom-Stream-Seq: \u00855\r\n\r\n".encode(), 0),
    ],
)
async def test_an_event_has_one_number_by_whatever_road_it_comes(
    fresh_nats: EmbeddedNats, headers: bytes, number: int
) -> None:
    async with Broker(fresh_nats.url, name="test") as broker:
        broker.start()
        await broker.wait_connected()
        await ensure_stream(broker, StreamSettings())
        roads = ("live", "consumer", "direct get", "leader")
        assert await numbers_of(broker, headers) == dict.fromkeys(roads, number)


@pytest.mark.parametrize(
    ("headers", "data"),
    [
        (b"NATS/1.0 204 EOB\r\nNats-UpTo-Sequence: abc\r\n\r\n", b"abc"),
        (b"NATS/1.0 204 EOB\r\nNats-UpTo-Sequence: " + b"9" * 5000 + b"\r\n\r\n", b"[]"),
        (b"NATS/1.0 204 EOB\r\nNats-Num-Pending: abc\r\n\r\n", b"[" * 100_000),
        (b"NATS/1.0 408 Empty Request\r\n\r\n", b'{"error": {"err_code": "abc"}}'),
        (b"NATS/1.0 413 Too Many Results\r\n\r\n", b'{"message": {"seq": "abc", "subject": "rooms.1.ws.a"}}'),
        (b"X 204 EOB\r\n\r\n", b'{"message": 1}'),
    ],
)
async def test_an_answer_that_says_what_no_server_does_is_none(headers: bytes, data: bytes) -> None:
    with running_nats() as nats:
        async with Broker(nats.url, name="test") as broker, Broker(nats.url, name="liar") as liar:

            async def lie(message: Msg) -> None:
                answer = [Outgoing(message.reply, headers, data), Outgoing("nobody", b"", b"")]
                with suppress(NoRespondersError):
                    await liar.client.request_all(answer, 5)

            for one in (broker, liar):
                one.start()
                await one.wait_connected()
            for call in ("DIRECT.GET.ROOMS", "STREAM.MSG.GET.ROOMS"):
                await liar.client.subscribe(f"$JS.API.{call}", cb=lie)
            await liar.client.flush(5)
            with pytest.raises(BrokerUnavailableError):
                await last_by_subjects(broker, ["rooms.1.ws.a"], whole)
            with pytest.raises((BrokerUnavailableError, JetStreamError)):
                await next_by_leader(broker, "rooms.1.ws.a", 1)


async def test_what_came_to_another_inbox_is_no_answer(fresh_nats: EmbeddedNats) -> None:
    async with Broker(fresh_nats.url, name="test") as broker:
        broker.start()
        await broker.wait_connected()
        await ensure_stream(broker, StreamSettings())
        before = set(broker.client.raw_handlers)
        asking = asyncio.create_task(next_by_subject(broker, "rooms.1.ws.nobody", 1, 1))
        while not (asked := broker.client.raw_handlers.keys() - before):
            await asyncio.sleep(0)
        broker.client.raw_handlers[asked.pop()](broker.client.new_inbox(), "", b"NATS/1.0 404\r\n\r\n", b"")
        with pytest.raises(MisplacedAnswerError):
            await asking


async def test_a_stream_that_is_away_is_nobodys_doing() -> None:
    with running_nats() as nats:
        async with Broker(nats.url, name="test") as broker:
            broker.start()
            await broker.wait_connected()
            with pytest.raises(BrokerUnavailableError) as away:
                await last_by_subjects(broker, ["rooms.1.ws.a"], whole)
            assert not isinstance(away.value, MisplacedAnswerError)


async def test_answers_that_are_large_together_cost_no_connection(fresh_nats: EmbeddedNats) -> None:
    """The server keeps 16 MB for one."""
    connections = 0

    async def count() -> None:
        nonlocal connections
        connections += 1

    async with Broker(fresh_nats.url, name="test") as broker:
        broker.on_connected(count)
        broker.start()
        await broker.wait_connected()
        await ensure_stream(broker, StreamSettings())
        rooms = [f"rooms.1.ws.{uuid4().hex}" for _ in range(10)]
        for room in rooms:
            await broker.client.request(room, b"x" * 7_000_000, timeout=20)
        found = await asyncio.gather(*(next_by_subject(broker, room, 1, 10, seconds=30) for room in rooms))
        assert [[message.subject for message in one] for one in found] == [[room] for room in rooms]
        await last_by_subjects(broker, rooms, place, seconds=30)
    assert connections == 1


def stands_still(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"


async def test_who_waits_for_an_answer_is_told_that_the_connection_is_lost() -> None:
    with running_nats() as nats:
        async with Broker(nats.url, name="test") as broker:
            broker.start()
            await broker.wait_connected()
            await ensure_stream(broker, StreamSettings())
            assert nats.pid is not None
            os.kill(nats.pid, signal.SIGSTOP)
            while not stands_still(nats.pid):
                await asyncio.sleep(0.01)
            # The second one waits for the first.
            asking = [asyncio.create_task(next_by_subject(broker, "rooms.>", 1, 1, seconds=600)) for _ in range(2)]
            await asyncio.sleep(0.1)
            nats.kill()
            for one in asking:
                with pytest.raises(BrokerUnavailableError):
                    await one
