"""Subjects and partitions are the same for everybody, for good."""

import pytest

from shared.contracts.subjects import (
    PARTITIONS,
    fnv1a_32,
    matches,
    partition_filter,
    partition_of,
    room_subject,
    stream_seq_in,
    stream_seq_of,
)
from shared.messaging.client import parse_headers


@pytest.mark.parametrize(
    ("data", "digest"), [(b"", 0x811C9DC5), (b"a", 0xE40C292C), (b"foobar", 0xBF9CF968)]
)  # the reference values of draft-eastlake-fnv
def test_fnv1a(data: bytes, digest: int) -> None:
    assert fnv1a_32(data) == digest


def test_a_rooms_subject_never_changes() -> None:
    assert room_subject("ws_dev", "lobby") == f"rooms.{fnv1a_32(b'ws_dev.lobby') % 32}.ws_dev.lobby"
    assert partition_filter(7) == "rooms.7.*.*"


def test_rooms_spread_over_the_partitions() -> None:
    counts = [0] * PARTITIONS
    for number in range(3200):
        counts[partition_of("ws", f"room_{number}")] += 1
    assert min(counts) > 50


@pytest.mark.parametrize(
    ("pattern", "subject", "expected"),
    [
        ("rooms.1.ws.r", "rooms.1.ws.r", True),
        ("rooms.1.ws.r", "rooms.1.ws.r2", False),
        ("rooms.1.ws.r", "rooms.1.ws.r.more", False),
        ("rooms.1.*.*", "rooms.1.ws.r", True),
        ("rooms.1.*.*", "rooms.1.ws", False),
        ("rooms.1.*.*", "rooms.11.ws.r", False),
        ("rooms.>", "rooms.1.ws.r", True),
        ("rooms.>", "rooms", False),
        ("rooms.>", "relay.wake", False),
        ("rooms.>", "", False),
    ],
)
def test_what_a_pattern_means(pattern: str, subject: str, *, expected: bool) -> None:
    assert matches(pattern, subject) is expected


@pytest.mark.parametrize(
    ("raw", "stream_seq"),
    [
        (b"", 0),
        (b"NATS/1.0\r\n\r\n", 0),
        (b"NATS/1.0\r\nRunroom-Stream-Seq: 4\r\n\r\n", 4),
        (b"NATS/1.0\r\nRunroom-Stream-Seq: 4\r\nRunroom-Stream-Seq: 3\r\n\r\n", 3),
        (b"NATS/1.0\r\nRunroom-Stream-Seq: 4\r\nRunroom-Stream-Seq: x\r\n\r\n", 0),
        (b"NATS/1.0\r\nRunroom-Stream-Seq: 4\r\nrunroom-stream-seq: 3\r\n\r\n", 4),
        (b"NATS/1.0\r\nRunroom-Stream-Seq: \xd9\xa4\r\n\r\n", 0),
        (b"NATS/1.0\r\nRunroom-Stream-Seq: " + b"9" * 19 + b"\r\n\r\n", 0),
        (b"NATS/1.0\r\nRunroom-Stream-Seq: \x1c4\r\n\r\n", 0),
    ],
)
def test_an_event_has_one_number_however_it_is_read(raw: bytes, stream_seq: int) -> None:
    assert stream_seq_in(raw) == stream_seq_of(parse_headers(raw)) == stream_seq


def test_headers_without_an_end_are_read_as_they_are_where_the_server_appends_its_own() -> None:
    """It cuts their last two bytes off for that, whatever they are (tests/integration/test_direct_get.py)."""
    assert stream_seq_in(b"NATS/1.0\r\nRunroom-Stream-Seq: 3\r\nRunroom-Stream-Seq: 4x") == 0
    assert stream_seq_in(b"NATS/1.0\r\nRunroom-Stream-Seq: 4\r\n") == 0
    assert stream_seq_in(b"NATS/1.0\r\nRunroom-Stream-Seq: 4\r\nxx") == 4
