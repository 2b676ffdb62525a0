"""A partition's consumer: what it takes in, what it asks for, and when it gives up on itself."""

from __future__ import annotations

import time

import pytest

from services.projector.consumer import PULL_MESSAGES, Consumer
from services.projector.projections.base import Recorded
from shared.contracts.subjects import HEADER_STREAM_SEQ


def receive(consumer: Consumer, position: int, consumer_seq: int, seq: str | None = "1", domain: str = "") -> None:
    reply = f"$JS.ACK.{domain}ROOMS.{consumer.name}.1.{position}.{consumer_seq}.1700000000000000000.5"
    reply += ".token" if domain else ""
    headers = "NATS/1.0\r\n" + ("" if seq is None else f"{HEADER_STREAM_SEQ}: {seq}\r\n") + "\r\n"
    consumer.receive("rooms.3.ws.room", reply.split("."), headers.encode(), b"{}")


@pytest.fixture
def consumer() -> Consumer:
    return Consumer("name", 3, 1, "created/0")


@pytest.mark.parametrize("domain", ["", "hub.ACCOUNTHASH."])
def test_position_and_seq_come_from_the_reply_subject_and_the_header(consumer: Consumer, domain: str) -> None:
    receive(consumer, 41, 1, "7", domain)
    assert list(consumer.buffer) == [("rooms.3.ws.room", Recorded(7, 41, b"{}"))]
    assert (consumer.pending, consumer.fault) == (5, None)


@pytest.mark.parametrize("seq", [None, "", "x", "-1", "1.5", "9" * 30])
def test_a_message_without_a_seq_is_kept_as_no_event_so_that_its_position_counts(
    consumer: Consumer, seq: str | None
) -> None:
    receive(consumer, 41, 1, seq)
    assert consumer.buffer[0][1] == Recorded(0, 41, b"{}")


def test_a_message_that_got_lost_on_the_way_ends_the_consumer(consumer: Consumer) -> None:
    receive(consumer, 41, 1)
    receive(consumer, 43, 3)
    receive(consumer, 44, 4)
    assert consumer.fault == "gap"
    assert len(consumer.buffer) == 1


def test_it_asks_again_only_when_the_last_request_is_done_and_the_buffer_half_empty(consumer: Consumer) -> None:
    assert consumer.wants_more
    consumer.asked()
    assert not consumer.wants_more
    for number in range(1, PULL_MESSAGES + 1):
        receive(consumer, number, number)
    assert not consumer.wants_more, "everything came, nothing was taken yet"
    for _ in range(PULL_MESSAGES // 2):
        consumer.buffer.popleft()
    assert consumer.wants_more


@pytest.mark.parametrize(
    ("status", "description", "fault"),
    [
        ("100", "Idle Heartbeat", None),
        ("408", "Request Timeout", None),
        ("409", "Batch Completed", None),
        ("409", "Message Size Exceeds MaxBytes", None),
        ("409", "Consumer Deleted", "status 409"),
        ("409", "Leadership Change", "status 409"),
        ("404", "No Messages", "status 404"),
        ("503", "No Responders", "status 503"),
    ],
)
def test_a_status_ends_the_request_or_the_consumer(
    consumer: Consumer, status: str, description: str, fault: str | None
) -> None:
    request = consumer.asked()
    consumer.receive_status(request, status, description)
    assert consumer.fault == fault
    assert consumer.wants_more == (fault is None and status != "100")


def test_what_is_too_large_for_a_request_is_asked_for_by_itself(consumer: Consumer) -> None:
    request = consumer.asked()
    receive(consumer, 1, 1)
    consumer.receive_status(request, "409", "Message Size Exceeds MaxBytes")
    assert not consumer.asks_for_one, "something came, so the next may be small enough"
    request = consumer.asked()
    consumer.receive_status(request, "409", "Message Size Exceeds MaxBytes")
    assert consumer.asks_for_one
    consumer.asked()
    receive(consumer, 2, 2)
    assert consumer.wants_more
    assert not consumer.asks_for_one


def test_a_status_of_an_older_request_is_no_news(consumer: Consumer) -> None:
    older = consumer.asked()
    consumer.asked()
    consumer.receive_status(older, "409", "Batch Completed")
    assert not consumer.wants_more


def test_silence_while_something_is_asked_for_is_a_fault(consumer: Consumer) -> None:
    consumer.check(time.monotonic() + 60)
    assert consumer.fault is None, "nothing was asked for"
    consumer.asked()
    consumer.check(time.monotonic() + 1)
    assert consumer.fault is None
    consumer.check(time.monotonic() + 60)
    assert consumer.fault == "silence"
