"""Reads that are the same are one, and each is read after its caller came."""

import asyncio

import pytest

from services.query.joined import Joined


class Source:
    """Answers a read when told to."""

    def __init__(self) -> None:
        self.keys: list[str] = []
        self.answers: list[asyncio.Future[str]] = []

    async def read(self, key: str) -> str:
        self.keys.append(key)
        self.answers.append(asyncio.get_running_loop().create_future())
        return await self.answers[-1]


async def soon() -> None:
    await asyncio.sleep(0.01)


async def test_who_comes_while_it_is_being_read_waits_until_it_is_read_again_with_all_others() -> None:
    source = Source()
    joined = Joined(source.read, at_once=5)
    first = asyncio.create_task(joined.get("a"))
    await soon()
    later = [asyncio.create_task(joined.get("a")) for _ in range(3)]
    await soon()
    assert source.keys == ["a"]
    source.answers[0].set_result("old")
    assert await first == "old"
    await soon()
    last = asyncio.create_task(joined.get("a"))
    assert source.keys == ["a", "a"]
    source.answers[1].set_result("new")
    assert await asyncio.gather(*later) == ["new", "new", "new"]
    await soon()
    source.answers[2].set_result("newest")
    assert await last == "newest"


async def test_who_waits_for_a_turn_is_joined_until_it_comes() -> None:
    source = Source()
    joined = Joined(source.read, at_once=1)
    asked = [asyncio.create_task(joined.get("a")), asyncio.create_task(joined.get("b"))]
    await soon()
    asked.append(asyncio.create_task(joined.get("b")))
    await soon()
    assert source.keys == ["a"]
    assert joined.waiting == 1
    source.answers[0].set_result("A")
    await soon()
    source.answers[1].set_result("B")
    assert await asyncio.gather(*asked) == ["A", "B", "B"]
    assert source.keys == ["a", "b"]


async def test_turns_are_taken_in_the_order_of_asking() -> None:
    source = Source()
    joined = Joined(source.read, at_once=2)
    asked = [asyncio.create_task(joined.get(key)) for key in "abcda"]
    await soon()
    # It is read again only after those who came before.
    asked.append(asyncio.create_task(joined.get("a")))
    for number in range(5):
        await soon()
        source.answers[number].set_result(f"{number}")
    assert source.keys == ["a", "b", "c", "d", "a"]
    assert await asyncio.gather(*asked) == ["0", "1", "2", "3", "0", "4"]


async def test_a_failure_is_that_of_all_who_asked_and_of_nobody_else() -> None:
    source = Source()
    joined = Joined(source.read, at_once=1)
    asked = [asyncio.create_task(joined.get("a")) for _ in range(2)]
    await soon()
    asked[0].cancel()
    source.answers[0].set_exception(OSError("gone"))
    with pytest.raises(OSError, match="gone"):
        await asked[1]
    again = asyncio.create_task(joined.get("a"))
    await soon()
    source.answers[1].set_result("A")
    assert await again == "A"
