"""Subjects and partitions are the same for everybody, for good."""

import pytest

from shared.contracts.subjects import PARTITIONS, fnv1a_32, partition_filter, partition_of, room_subject


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
