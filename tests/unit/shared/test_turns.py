import asyncio

from shared.turns import Turns


async def test_only_so_many_in_one_turn_of_the_loop() -> None:
    turns = Turns(3)
    done: list[int] = []
    for number in range(8):
        turns.enter(lambda number=number: done.append(number))
    reached: list[int] = []
    while len(done) < 8:
        reached.append(len(done))
        await asyncio.sleep(0)
    assert done == list(range(8))
    assert reached == [3, 6]
    await asyncio.sleep(0)
    turns.enter(lambda: done.append(8))
    assert done[-1] == 8


async def test_whoever_came_first_goes_first_and_who_has_left_holds_nobody_up() -> None:
    turns = Turns(2)
    done: list[int] = []

    async def wait(number: int) -> None:
        await turns.take()
        done.append(number)

    tasks = [asyncio.create_task(wait(number)) for number in range(9)]
    await asyncio.sleep(0)
    assert done == [0, 1]
    tasks[3].cancel()
    async with asyncio.timeout(1):
        await asyncio.gather(*tasks, return_exceptions=True)
    assert done == [0, 1, 2, 4, 5, 6, 7, 8]


async def test_who_takes_turns_leaves_time_for_others() -> None:
    turns = Turns(2)
    between = 0

    async def work() -> None:
        for _ in range(10):
            await turns.take()

    working = asyncio.create_task(work())
    while not working.done():
        between += 1
        await asyncio.sleep(0)
    assert between >= 5


async def test_what_weighs_more_than_a_turn_has_as_many_for_itself() -> None:
    turns = Turns(10)
    began = dict[int, int]()
    turn = 0

    async def work(number: int, weight: int) -> None:
        await turns.take(weight)
        began[number] = turn

    tasks = [asyncio.create_task(work(number, weight)) for number, weight in enumerate([4, 4, 99, 6, 4, 4, 10])]
    while not all(task.done() for task in tasks):
        await asyncio.sleep(0)
        turn += 1
    assert list(began) == list(range(7)), "whoever came first goes first"
    assert began[0] == began[1] < began[2]
    assert began[3] == began[4] == began[2] + 10
    assert began[3] < began[5] < began[6]
