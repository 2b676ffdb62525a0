"""Lists that many ask for at one time: one question for all of them, and never an answer from before the asking."""

from __future__ import annotations

import asyncio
import itertools

import httpx

from .service import QueryService
from .world import Projections, fresh

_LISTS_WAITING = """
    select count(*) from pg_locks where not granted and relation = 'proj_runs_v1'::regclass
"""


async def _lists_waiting(projections: Projections) -> int:
    return await projections.connection.fetchval(_LISTS_WAITING)


async def _answers(asked: list[asyncio.Task[httpx.Response]]) -> list[httpx.Response]:
    answers = await asyncio.gather(*asked)
    assert {answer.status_code for answer in answers} == {200}
    return answers


async def test_the_same_list_is_one_question(query: QueryService, projections: Projections, room: str) -> None:
    run_id = fresh("run")
    await projections.apply_run({"run_id": run_id, "room_id": room, "tags": ["red"]})
    pages = [{"room_id": room}, {"room_id": room, "tag": "red"}]
    async with projections.connection.transaction():
        await projections.connection.execute("lock table proj_runs_v1 in access exclusive mode")
        asked = [asyncio.create_task(query.get("/v1/runs", page)) for page in pages * 20]
        async with asyncio.timeout(5):
            while await _lists_waiting(projections) < len(pages):
                await asyncio.sleep(0.01)
        await asyncio.sleep(0.2)
        assert await _lists_waiting(projections) == len(pages)
        assert not any(one.done() for one in asked)
    bodies = {answer.text for answer in await _answers(asked)}
    assert len(bodies) == 1
    assert run_id in bodies.pop()


async def test_lists_that_differ_do_not_wait_for_one_another(
    query: QueryService, projections: Projections, room: str
) -> None:
    await projections.apply_run({"run_id": fresh("run"), "room_id": room})
    answers = await _answers(
        [
            asyncio.create_task(query.get("/v1/runs", {"room_id": name, "limit": limit}, x_workspace_id=workspace))
            for name, limit, workspace in itertools.product((room, "none"), (1, 2), ("ws_dev", "ws_empty"))
        ]
    )
    found = [len(answer.json()["runs"]) for answer in answers]
    assert found == [1, 0, 1, 0, 0, 0, 0, 0]


async def test_an_answer_is_never_older_than_its_request(
    query: QueryService, projections: Projections, room: str
) -> None:
    """While others ask for the same list all the time, whoever has seen a run applied finds it."""
    page = {"room_id": room, "limit": 1}
    over = asyncio.Event()

    async def poll() -> None:
        while not over.is_set():
            assert (await query.get("/v1/runs", page)).status_code == 200

    pollers = [asyncio.create_task(poll()) for _ in range(8)]
    try:
        for number in range(80):
            run_id = f"run_{room}_{number:03}"
            await projections.apply_run({"run_id": run_id, "room_id": room, "minute": number, "stream_seq": number + 1})
            answer = await query.get("/v1/runs", page | ({"min_seq": number + 1} if number % 2 else {}))
            assert [run["run_id"] for run in answer.json()["runs"]] == [run_id]
    finally:
        over.set()
        await asyncio.gather(*pollers)
