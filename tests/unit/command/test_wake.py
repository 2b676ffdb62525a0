"""A ping to whoever leads the relay names rooms, or none."""

import pytest

from services.command.relay.wake import MOST_ROOMS, rooms_heard, rooms_told
from shared.contracts.ids import RoomKey

LONGEST = [RoomKey("w" * 128, f"{number:0>128}") for number in range(MOST_ROOMS)]


@pytest.mark.parametrize("rooms", [[], [RoomKey("ws", "lobby"), RoomKey("a-b", "c_d")], LONGEST])
def test_what_is_told_is_heard(rooms: list[RoomKey]) -> None:
    assert rooms_heard(rooms_told(rooms)) == rooms


@pytest.mark.parametrize(
    "payload",
    [b"\n", b"ws", b"ws lobby\n", b"ws a b", b"ws \xff", b"ws \0", b"ws a.b", b"ws lobby\r\nws b", b"a b\n" * 400_000],
)
def test_what_nobody_tells_names_no_room(payload: bytes) -> None:
    assert rooms_heard(payload) == []


def test_more_rooms_than_anybody_tells_are_none() -> None:
    assert rooms_heard(rooms_told([*LONGEST[:-1], RoomKey("a", "b"), RoomKey("a", "c")])) == []
