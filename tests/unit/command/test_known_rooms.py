"""What is known of rooms is whole, bounded, and gone once somebody else has written to them."""

from services.command.domain.run import RunState
from services.command.known_rooms import KnownRooms
from shared.contracts.ids import RoomKey

A, B, C = RoomKey("ws", "a"), RoomKey("ws", "b"), RoomKey("ws", "c")


def run(run_id: str, room: RoomKey = A, version: int = 1) -> RunState:
    return RunState(
        run_id=run_id,
        workspace_id=room.workspace_id,
        room_id=room.room_id,
        thread_id=None,
        status="queued",
        version=version,
        last_event_id="e",
        correlation_id="c",
    )


def test_what_was_learned_is_known_and_nothing_else() -> None:
    known = KnownRooms()
    known.learn({A: 3}, [run("r1"), run("elsewhere", B)], 0.0)
    known.learn({A: 4}, [run("r1", version=2)], 0.0)
    assert known.look_up([(A, None), (A, "r1")]) == ({A: 4}, {"r1": run("r1", version=2)})
    assert known.look_up([]) == ({}, {})
    for unknown in ((B, None), (A, "r2"), (B, "elsewhere")):
        assert known.look_up([(A, None), unknown]) is None


def test_what_is_looked_up_does_not_change_what_is_known() -> None:
    known = KnownRooms()
    known.learn({A: 3}, [run("r1")], 0.0)
    for _ in range(2):
        state = known.look_up([(A, "r1")])
        assert state is not None
        assert state == ({A: 3}, {"r1": run("r1")})
        state.rooms[A] = 9
        state.runs.clear()


def test_a_room_that_somebody_else_wrote_to_is_not_remembered_for_a_second() -> None:
    known = KnownRooms()
    known.learn({A: 3, B: 1}, [run("r1")], 0.0)
    known.forget([A], 10.0)
    assert known.look_up([(A, None)]) is None
    assert known.look_up([(B, None)]) == ({B: 1}, {})
    known.learn({A: 5}, [run("r1")], 10.9)
    assert known.look_up([(A, None)]) is None
    known.learn({A: 6}, [run("r2")], 11.1)
    assert known.look_up([(A, "r2")]) == ({A: 6}, {"r2": run("r2")})
    assert known.look_up([(A, "r1")]) is None


def test_a_room_found_elsewhere_is_forgotten_with_its_runs() -> None:
    known = KnownRooms()
    known.learn({A: 3, B: 1}, [run("r1")], 0.0)
    known.compare({A: 4, B: 1})
    known.learn({A: 4}, [], 0.0)
    assert known.look_up([(A, "r1")]) is None
    assert known.look_up([(A, None), (B, None)]) == ({A: 4, B: 1}, {})


def test_the_oldest_rooms_make_place_with_their_runs() -> None:
    known = KnownRooms(most_rooms=2)
    known.learn({A: 1}, [run("r1")], 0.0)
    known.learn({B: 1}, [run("r2", B)], 0.0)
    known.learn({A: 2}, [], 0.0)
    known.learn({C: 1}, [run("r3", C)], 0.0)
    assert known.look_up([(B, None)]) is None
    assert known.look_up([(A, "r1"), (C, "r3")]) is not None
    known.learn({B: 2}, [], 0.0)
    assert known.look_up([(B, None)]) is not None
    assert known.look_up([(B, "r2")]) is None
    assert known.look_up([(A, None)]) is None


def test_the_oldest_runs_make_place_and_leave_their_rooms_known() -> None:
    known = KnownRooms(most_runs=2)
    known.learn({A: 1, B: 1}, [run("r1"), run("r2", B)], 0.0)
    known.learn({A: 2}, [run("r1")], 0.0)
    known.learn({A: 3}, [run("r3")], 0.0)
    assert known.look_up([(B, None)]) is not None
    assert known.look_up([(B, "r2")]) is None
    assert known.look_up([(A, "r1"), (A, "r3")]) is not None
    known.forget([A], 0.0)
    known.learn({A: 4}, [run("r4"), run("r5")], 2.0)
    assert known.look_up([(A, "r4"), (A, "r5")]) is not None
    assert known.look_up([(A, "r1")]) is None
