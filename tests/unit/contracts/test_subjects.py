"""Subjects and partitions are the same for everybody, for good."""

import pytest

from shared.contracts.subjects import PARTITIONS, fnv1a_32, matches, partition_filter, partition_of, room_subject


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
