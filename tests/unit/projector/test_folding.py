"""A batch is folded in turns, to the same rows."""

import asyncio
from collections.abc import Sequence

import pytest

from services.projector import folding
from services.projector.folding import TURN_BYTES, fold_in_turns
from services.projector.projections.base import Recorded, RoomEvents, fold
from services.projector.projections.room_feed import RoomFeed
from shared.contracts.ids import RoomKey


def rooms(sizes: Sequence[Sequence[int]]) -> list[RoomEvents]:
    return [
        RoomEvents(RoomKey("ws", f"r{number}"), [Recorded(seq, seq, b"x" * size) for seq, size in enumerate(events)])
        for number, events in enumerate(sizes)
    ]


@pytest.mark.parametrize(
    "given",
    [[], [[1]], [[TURN_BYTES], [1]], [[TURN_BYTES // 2 + 1] * 5], [[3 * TURN_BYTES, 1, 1, TURN_BYTES], [7] * 9]],
    ids=str,
)
async def test_turns_change_nothing_of_what_comes_of_it(given: list[list[int]]) -> None:
    assert await fold_in_turns(RoomFeed(), rooms(given)) == fold(RoomFeed(), rooms(given))


@pytest.mark.parametrize("given", [[[TURN_BYTES // 4] * 40], [[TURN_BYTES // 4]] * 40], ids=["one room", "many rooms"])
async def test_others_have_their_turn_meanwhile(given: list[list[int]]) -> None:
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    task = asyncio.create_task(others())
    await fold_in_turns(RoomFeed(), rooms(given))
    task.cancel()
    assert turns >= 40 // 4 - 1
    assert folding.TURN_BYTES <= 64 * 1024
