"""Only what follows on what is published is handed on; of everything else the event store is to tell."""

from services.command.domain.batch import NewEvent
from services.command.relay import handover as module
from services.command.relay.handover import Handover
from services.command.relay.outbox import UnpublishedEvent
from shared.contracts.events import RunStarted, RunStartedData
from shared.contracts.ids import RoomKey


def new(room_id: str, stream_seq: int, size: int = 10) -> NewEvent:
    event = RunStarted(
        event_id=f"{room_id}-{stream_seq}",
        occurred_at="t",
        recorded_at="t",
        workspace_id="ws",
        room_id=room_id,
        thread_id=None,
        run_id="run",
        actor_type="agent",
        actor_id="a",
        stream_id=room_id,
        stream_seq=stream_seq,
        correlation_id="c",
        causation_id=None,
        data=RunStartedData("run"),
    )
    return NewEvent(event, b"x" * size, None)


def published(room_id: str, stream_seq: int) -> UnpublishedEvent:
    return UnpublishedEvent(RoomKey("ws", room_id), stream_seq, "e", "run.started", None, b"")


def open_handover(*heads: UnpublishedEvent) -> Handover:
    handover = Handover()
    handover.is_open = True
    handover.published(heads)
    return handover


def take(handover: Handover, most: int = 100, most_bytes: int = 10_000) -> list[tuple[str, int]]:
    return [(event.room.room_id, event.stream_seq) for event in handover.take(most, most_bytes)]


def test_what_follows_is_handed_on_in_order() -> None:
    handover = open_handover(published("a", 3), published("b", 0))
    handover.offer([new("a", 4), new("b", 1), new("a", 5)])
    assert take(handover) == [("a", 4), ("b", 1), ("a", 5)]
    assert not handover.missed
    assert take(handover) == []


def test_a_room_that_is_not_known_is_left_to_the_event_store() -> None:
    handover = open_handover(published("a", 3))
    handover.offer([new("b", 1), new("a", 4)])
    assert take(handover) == [("a", 4)]
    assert (handover.wanted, handover.missed) == ({RoomKey("ws", "b")}, False)


def test_a_hole_is_left_to_the_event_store() -> None:
    handover = open_handover(published("a", 3))
    handover.offer([new("a", 5), new("a", 6)])
    assert take(handover) == []
    assert (handover.wanted, handover.missed) == ({RoomKey("ws", "a")}, False)


def test_what_the_event_store_told_already_is_not_handed_on() -> None:
    handover = open_handover(published("a", 5))
    handover.offer([new("a", 4), new("a", 5), new("a", 6)])
    assert take(handover) == [("a", 6)]
    assert not handover.missed


def test_what_was_taken_and_not_published_is_a_hole() -> None:
    handover = open_handover(published("a", 3))
    handover.offer([new("a", 4)])
    assert take(handover) == [("a", 4)]
    handover.offer([new("a", 5)])
    assert take(handover) == []
    assert handover.wanted == {RoomKey("ws", "a")}


def test_more_rooms_than_are_remembered_are_gone_through() -> None:
    handover = open_handover()
    rooms = [RoomKey("ws", str(number)) for number in range(module.MOST_WANTED)]
    for room in [*rooms, rooms[0]]:
        handover.want(room)
    assert (handover.wanted, handover.missed) == (set(rooms), False)
    handover.want(RoomKey("ws", "another"))
    assert (handover.wanted, handover.missed) == (set(rooms), True)
    handover.reset()
    assert handover.wanted == set()


def test_as_much_is_taken_as_fits() -> None:
    handover = open_handover(published("a", 0))
    handover.offer([new("a", seq) for seq in range(1, 8)])
    assert take(handover, most=2) == [("a", 1), ("a", 2)]
    handover.published([published("a", 2)])
    assert take(handover, most_bytes=25) == [("a", 3), ("a", 4), ("a", 5)]


def test_what_does_not_fit_is_left_to_the_event_store() -> None:
    handover = open_handover(published("a", 0))
    handover.offer([new("a", seq) for seq in range(1, module.MOST_EVENTS + 2)])
    assert handover.missed
    assert len(take(handover, most=10_000, most_bytes=10**9)) == module.MOST_EVENTS
    handover.missed = False
    handover.published([published("a", 5000)])
    handover.offer([new("a", 5001, module.MOST_BYTES), new("a", 5002)])
    assert handover.missed


def test_after_a_doubt_nothing_is_known() -> None:
    handover = open_handover(published("a", 3))
    handover.offer([new("a", 4)])
    handover.reset()
    handover.offer([new("a", 5)])
    assert handover.missed
    assert take(handover) == []


def test_whoever_does_not_lead_keeps_nothing() -> None:
    handover = open_handover(published("a", 3))
    handover.is_open = False
    handover.offer([new("a", 4)])
    handover.is_open = True
    assert take(handover) == []
