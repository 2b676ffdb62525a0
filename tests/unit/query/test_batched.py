"""Look-ups that come together are one question, and each is asked after its caller came."""

import asyncio

import pytest

from services.query.batched import Batched


class Source:
    """Answers a call when told to."""

    def __init__(self) -> None:
        self.calls: list[list[str]] = []
        self.answers: list[asyncio.Future[dict[str, str]]] = []

    async def look_up(self, keys: list[str]) -> dict[str, str]:
        self.calls.append(keys)
        self.answers.append(asyncio.get_running_loop().create_future())
        return await self.answers[-1]


async def test_what_comes_while_a_question_is_under_way_is_the_next_one() -> None:
    source = Source()
    batched = Batched(source.look_up, most=10, at_once=1)
    first = asyncio.create_task(batched.get("a"))
    await asyncio.sleep(0.01)
    others = [asyncio.create_task(batched.get(key)) for key in ("b", "a", "b", "none")]
    await asyncio.sleep(0.01)
    assert source.calls == [["a"]]
    source.answers[0].set_result({"a": "old"})
    assert await first == "old"
    await asyncio.sleep(0.01)
    assert source.calls == [["a"], ["b", "a", "none"]]
    source.answers[1].set_result({"a": "new", "b": "B"})
    assert await asyncio.gather(*others) == ["B", "new", "B", None]


async def test_no_more_than_fit_and_no_more_at_once_than_allowed() -> None:
    source = Source()
    batched = Batched(source.look_up, most=2, at_once=2)
    asked = [asyncio.create_task(batched.get(str(number))) for number in range(5)]
    await asyncio.sleep(0.01)
    assert source.calls == [["0", "1"], ["2", "3"]]
    assert batched.waiting == 1
    source.answers[1].set_result({})
    await asyncio.sleep(0.01)
    assert source.calls[2:] == [["4"]]
    for answer in (source.answers[0], source.answers[2]):
        answer.set_result({str(number): "x" for number in range(5)})
    assert await asyncio.gather(*asked) == ["x", "x", None, None, "x"]


async def test_a_failure_is_that_of_all_who_asked_and_of_nobody_else() -> None:
    source = Source()
    batched = Batched(source.look_up, most=10, at_once=1)
    asked = [asyncio.create_task(batched.get("a")) for _ in range(2)]
    await asyncio.sleep(0.01)
    asked[0].cancel()
    source.answers[0].set_exception(OSError("gone"))
    with pytest.raises(OSError, match="gone"):
        await asked[1]
    again = asyncio.create_task(batched.get("a"))
    await asyncio.sleep(0.01)
    source.answers[1].set_result({"a": "A"})
    assert await again == "A"
