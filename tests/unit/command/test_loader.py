"""Which rooms a batch is about."""

from typing import Any, cast

from services.command.domain.batch import Request
from services.command.domain.commands import CreateRun, StartRun
from services.command.loader import Loader
from services.command.run_rooms import RunRooms
from shared.contracts.ids import RoomKey
from tests.unit.command.given import CALLER, TIME


async def test_a_room_is_not_locked_for_a_caller_who_may_not_see_it() -> None:
    run_rooms = RunRooms()
    run_rooms.add("run_1", RoomKey("ws", "r"))
    callers = [
        CALLER,
        CALLER._replace(rooms=frozenset({"r"})),
        CALLER._replace(rooms=frozenset({"other"})),
        CALLER._replace(workspace_id="other"),
        CALLER._replace(workspace_id="other", rooms=frozenset({"r"})),
    ]
    nobody_asks = cast("Any", None)  # all that is needed is remembered

    rooms = await Loader(run_rooms).rooms_of(
        nobody_asks, [Request(caller, StartRun(run_id="run_1"), TIME) for caller in callers]
    )

    assert rooms == [RoomKey("ws", "r"), RoomKey("ws", "r"), None, None, None]


async def test_a_new_run_is_in_the_room_it_names() -> None:
    rooms = await Loader(RunRooms()).rooms_of(cast("Any", None), [Request(CALLER, CreateRun(room_id="r"), TIME)])
    assert rooms == [RoomKey("ws", "r")]
