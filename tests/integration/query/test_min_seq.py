"""Reading one's own write: an answer reflects the event it was asked for, or says that it does not."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable

import httpx
import pytest

from services.query.http.parameters import MOST_SEQ
from shared.contracts.subjects import progress_subject
from tests.support.tokens import claims, hs256

from .service import QueryService, running
from .test_reads import problem
from .world import Projections, Stream, fresh


async def test_what_is_applied_is_answered_at_once(query: QueryService, projections: Projections, room: str) -> None:
    run_id = fresh("run")
    await projections.apply_run({"run_id": run_id, "room_id": room, "stream_seq": 4})
    started = time.monotonic()
    for path, params in _reads(run_id, room):
        assert (await query.get(path, params | {"min_seq": 4, "wait": 30_000})).status_code == 200
    assert time.monotonic() - started < 2


async def test_a_run_that_is_projected_meanwhile(query: QueryService, projections: Projections, stream: Stream) -> None:
    """Neither the run nor its room is known at first; the wake-up answers it, not the clock."""
    for _ in range(3):
        room, run_id = fresh("room"), fresh("run")
        asked = [
            asyncio.create_task(query.get(path, params | {"min_seq": 2, "wait": 20_000}))
            for path, params in _reads(run_id, room)
        ]
        await asyncio.sleep(0.15)
        await projections.apply_run({"run_id": run_id, "room_id": room, "stream_seq": 1, "title": "first"})
        await stream.announce(room, 1)
        await asyncio.sleep(0.1)
        assert not any(one.done() for one in asked)
        await projections.connection.execute("update proj_runs_v1 set title = 'second' where run_id = $1", run_id)
        await projections.apply_position(room, 2)
        await stream.announce(room, 2)
        answers = await asyncio.wait_for(asyncio.gather(*asked), 5)
        assert [answer.status_code for answer in answers] == [200, 200, 200]
        assert answers[0].json()["run"]["title"] == answers[2].json()["runs"][0]["title"] == "second"


async def test_a_wake_up_is_not_missed(query: QueryService, projections: Projections, stream: Stream) -> None:
    """Applied and announced at any moment around the request, the answer comes well before the slow re-check is due."""
    late = 0
    for number in range(30):
        room, run_id = fresh("room"), fresh("run")
        await projections.apply_run({"run_id": run_id, "room_id": room, "stream_seq": 1})

        async def apply(room: str = room, delay: float = number * 0.0004) -> float:
            await asyncio.sleep(delay)
            await projections.apply_position(room, 2)
            await stream.announce(room, 2)
            return time.monotonic()

        async def ask(run_id: str = run_id) -> float:
            answer = await query.get(f"/v1/runs/{run_id}", {"min_seq": 2, "wait": 5000})
            assert answer.status_code == 200
            return time.monotonic()

        applied, answered = await asyncio.gather(apply(), ask())
        late += answered - applied > 0.2
    assert late <= 2  # a busy machine may be late by itself


async def test_without_a_wake_up_it_is_looked_for(query: QueryService, projections: Projections, room: str) -> None:
    run_id = fresh("run")
    await projections.apply_run({"run_id": run_id, "room_id": room, "stream_seq": 1})
    asked = asyncio.create_task(query.get(f"/v1/runs/{run_id}", {"min_seq": 2, "wait": 10_000}))
    await asyncio.sleep(0.1)
    await projections.apply_position(room, 2)
    assert (await asyncio.wait_for(asked, 3)).status_code == 200


async def test_what_is_announced_in_another_form_wakes_too(
    variables: dict[str, str], projections: Projections, stream: Stream, capfd: pytest.CaptureFixture[str]
) -> None:
    room, run_id = fresh("room"), fresh("run")
    await projections.apply_run({"run_id": run_id, "room_id": room, "stream_seq": 1})
    async with running(variables) as query:
        asked = asyncio.create_task(query.get(f"/v1/runs/{run_id}", {"min_seq": 2, "wait": 20_000}))
        await asyncio.sleep(0.15)
        for said in (b"", b"\xff", b"{}", b'{"x":' + b"[" * 100_000):
            await stream.client.publish(progress_subject("ws_dev", room), said)
        await stream.client.flush(1)
        await asyncio.sleep(0.15)
        await projections.apply_position(room, 2)
        assert (await asyncio.wait_for(asked, 5)).status_code == 200
    assert "broker_error" not in "".join(capfd.readouterr())


async def test_not_in_time(query: QueryService, projections: Projections, room: str) -> None:
    run_id = fresh("run")
    await projections.apply_run({"run_id": run_id, "room_id": room, "stream_seq": 4})
    timeouts = await query.metric("runroom_query_min_seq_timeouts_total")
    for path, params in _reads(run_id, room):
        assert await _behind(query.get(path, params | {"min_seq": 5, "wait": 100})) == 4
        assert await _behind(query.get(path, params | {"min_seq": 5, "wait": 0})) == 4
    for path, params in _reads(fresh("run"), fresh("room")):
        assert await _behind(query.get(path, params | {"min_seq": 1, "wait": 50})) == 0
    assert await query.metric("runroom_query_min_seq_timeouts_total") == timeouts + 9


async def test_a_filter_does_not_hide_that_a_room_is_behind(
    query: QueryService, projections: Projections, room: str
) -> None:
    await projections.apply_run({"room_id": room, "stream_seq": 1})
    params = {"room_id": room, "status": "failed", "min_seq": 2, "wait": 50}
    assert await _behind(query.get("/v1/runs", params)) == 1
    await projections.apply_position(room, 2)
    assert (await query.get("/v1/runs", params)).json()["runs"] == []


async def test_as_many_wait_as_may(variables: dict[str, str], room: str) -> None:
    async with running(variables | {"WAITERS_LIMIT": "5"}) as query:
        answers = await asyncio.gather(
            *(query.get("/v1/runs", {"room_id": room, "min_seq": 1, "wait": 700}) for _ in range(9))
        )
        errors = sorted(problem(answer, 503, answer.json()["error"])["error"] for answer in answers)
        assert errors == ["overloaded"] * 4 + ["projection_behind"] * 5


async def test_no_reader_takes_the_places_of_all(variables: dict[str, str]) -> None:
    """With authentication on, a tenth of them is the most for one subject in its workspace."""
    secret = "s" * 32
    async with running(variables | {"WAITERS_LIMIT": "20", "AUTH_JWT_SECRET": secret}) as query:

        async def ask(**changed: str) -> str:
            token = hs256(secret.encode(), claims(**changed))
            params = {"room_id": "r", "min_seq": MOST_SEQ, "wait": 1500}
            answer = await query.get("/v1/runs", params, authorization=f"Bearer {token}")
            return problem(answer, 503, answer.json()["error"])["error"]

        for _ in range(2):  # those that have ended count no more
            answers = await asyncio.gather(
                *(ask(sub="many", jti=fresh("jti")) for _ in range(6)),
                *(ask(sub="few") for _ in range(2)),
                *(ask(sub="many", workspace="ws_other") for _ in range(2)),
            )
            assert sorted(answers[:6]) == ["overloaded"] * 4 + ["projection_behind"] * 2
            assert answers[6:] == ["projection_behind"] * 4


async def test_one_of_a_subject_may_always_wait(variables: dict[str, str]) -> None:
    secret = "s" * 32
    async with running(variables | {"WAITERS_LIMIT": "5", "AUTH_JWT_SECRET": secret}) as query:
        token = hs256(secret.encode(), claims())
        params = {"room_id": "r", "min_seq": 1, "wait": 50}
        await _behind(query.get("/v1/runs", params, authorization=f"Bearer {token}"))


async def test_who_leaves_makes_room_at_once(variables: dict[str, str], projections: Projections, room: str) -> None:
    run_id = fresh("run")
    await projections.apply_run({"run_id": run_id, "room_id": room, "stream_seq": 1})
    async with running(variables | {"WAITERS_LIMIT": "3"}) as query:

        async def ask(wait: int) -> list[str]:
            """By each of the three reads, at the same time."""
            asked = [query.get(path, params | {"min_seq": 9, "wait": wait}) for path, params in _reads(run_id, room)]
            return [answer.json()["error"] for answer in await asyncio.gather(*asked)]

        waiting = asyncio.create_task(ask(30_000))
        await query.until("runroom_query_min_seq_waits_total", 3)
        assert await ask(0) == ["overloaded"] * 3
        waiting.cancel()
        async with asyncio.timeout(10):
            while await ask(0) != ["projection_behind"] * 3:
                await asyncio.sleep(0.02)


async def test_nobody_waits_longer_than_the_token_is_good_for(variables: dict[str, str]) -> None:
    secret = "s" * 32
    async with running(variables | {"AUTH_JWT_SECRET": secret}) as query:
        token = hs256(secret.encode(), claims(exp=int(time.time()) + 3))
        params = {"room_id": "r", "min_seq": 1, "wait": 30_000}
        async with asyncio.timeout(15):
            await _behind(query.get("/v1/runs", params, authorization=f"Bearer {token}"))
        answer = await query.get("/v1/runs", params, authorization=f"Bearer {token}")
        assert problem(answer, 401, "invalid_token")


def _reads(run_id: str, room: str) -> list[tuple[str, dict[str, int | str]]]:
    return [(f"/v1/runs/{run_id}", {}), (f"/v1/runs/{run_id}/steps", {}), ("/v1/runs", {"room_id": room})]


async def _behind(answer: Awaitable[httpx.Response]) -> int:
    response = await answer
    body = problem(response, 503, "projection_behind")
    assert response.headers["retry-after"] == "1"
    position: int = body["stream_seq"]
    return position
