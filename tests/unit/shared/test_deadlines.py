from shared.http.deadlines import Deadlines


class Watched:
    def __init__(self, name: str, told: list[str]) -> None:
        self.name = name
        self.told = told

    def expired(self) -> None:
        self.told.append(self.name)


async def test_with_one_too_many_the_first_is_told_at_once() -> None:
    told: list[str] = []
    deadlines = Deadlines(60, most=2)
    first, second, third, fourth = (Watched(name, told) for name in "abcd")
    deadlines.watch(first)
    deadlines.watch(second)
    deadlines.watch(first)
    assert told == []
    deadlines.watch(third)
    assert told == ["a"]
    deadlines.forget(second)
    deadlines.watch(fourth)
    assert told == ["a"]
    deadlines.watch(first)
    assert told == ["a", "c"]
