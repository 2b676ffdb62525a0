"""The room feed passes envelopes through as they are."""

from services.projector.projections.base import Recorded, RoomEvents, Write, fold
from services.projector.projections.room_feed import RoomFeed
from shared.contracts.ids import RoomKey


def test_nothing_gives_nothing() -> None:
    assert fold(RoomFeed(), []) == []


def test_envelopes_go_through_untouched_even_if_they_are_no_events() -> None:
    rooms = [
        RoomEvents(RoomKey("ws", "a"), [Recorded(1, 10, b"\x00not json"), Recorded(2, 0, b"{ }")]),
        RoomEvents(RoomKey("ws", "b"), [Recorded(7, 11, b"x")]),
    ]
    columns = (["ws"] * 3, ["a", "a", "b"], [1, 2, 7], [10, 0, 11], [b"\x00not json", b"{ }", b"x"])
    assert fold(RoomFeed(), rooms) == [Write("room_events_insert", columns)]
