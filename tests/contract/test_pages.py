"""Pages of a list neither repeat nor skip a row, also while rows are written, and a cursor serves only its own list."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from . import expect
from .client import Workspace


async def pages(
    workspace: Workspace, path: str, rows: str, *params: tuple[str, str | int]
) -> AsyncIterator[list[dict[str, Any]]]:
    """Walk a list to its end, page by page. No list of these tests is as long as the bound."""
    cursor: str | None = None
    for _ in range(300):
        more = [] if cursor is None else [("cursor", cursor)]
        page = expect.page(await workspace.get(path, [*params, *more]), rows)
        yield page[rows]
        cursor = page["next_cursor"]
        if cursor is None:
            return
    pytest.fail("the list does not end")


async def walk(workspace: Workspace, path: str, rows: str, *params: tuple[str, str | int]) -> list[dict[str, Any]]:
    return [row async for page in pages(workspace, path, rows, *params) for row in page]


async def create_many(workspace: Workspace, room: str, count: int, **members: Any) -> list[str]:
    answers = await asyncio.gather(*(workspace.create(room, **members) for _ in range(count)))
    await workspace.settle(room, max(answer["stream_seq"] for answer in answers))
    return [answer["run_id"] for answer in answers]


@pytest.mark.parametrize("limit", [1, 7, 23, 24, 200])
async def test_pages_of_any_size_hold_every_run_once(workspace: Workspace, room: str, limit: int) -> None:
    run_ids = await create_many(workspace, room, 23)

    walked = [page async for page in pages(workspace, "/v1/runs", "runs", ("room_id", room), ("limit", limit))]

    rows = [row for page in walked for row in page]
    assert sorted(row["run_id"] for row in rows) == sorted(run_ids)
    assert all(len(page) == limit for page in walked[:-1])
    created = [expect.instant(row["created_at"]) for row in rows]
    assert created == sorted(created, reverse=True), "newest created first"


async def test_runs_created_one_after_another_are_listed_newest_first(workspace: Workspace, room: str) -> None:
    run_ids = [(await workspace.create(room))["run_id"] for _ in range(8)]
    await workspace.settle(room, 8)

    rows = await walk(workspace, "/v1/runs", "runs", ("limit", 3))

    assert [row["run_id"] for row in rows] == run_ids[::-1]


async def test_the_default_page_has_fifty_runs(workspace: Workspace, room: str) -> None:
    await create_many(workspace, room, 53)

    first = await workspace.runs()
    rest = await workspace.runs(cursor=first["next_cursor"])

    assert (len(first["runs"]), len(rest["runs"]), rest["next_cursor"]) == (50, 3, None)


async def test_new_runs_between_the_pages_disturb_nothing(workspace: Workspace, room: str) -> None:
    standing = await create_many(workspace, room, 30, tags=["t"])
    seen: list[str] = []

    params = (("room_id", room), ("tag", "t"), ("limit", 4))
    async for page in pages(workspace, "/v1/runs", "runs", *params):
        seen += [row["run_id"] for row in page]
        newer = await create_many(workspace, room, 3, tags=["t"])
        # Rows change without moving: the order is by creation.
        await workspace.start(newer[0])
        await asyncio.gather(*(workspace.post(f"/v1/runs/{run_id}/start") for run_id in standing[:5]))

    assert len(seen) == len(set(seen)), "a page repeated a run"
    assert set(seen) >= set(standing), "a page skipped a run"


async def test_writers_at_full_speed_disturb_no_page(workspace: Workspace, room: str) -> None:
    standing = await create_many(workspace, room, 40)
    reading = True

    async def write() -> None:
        while reading:
            await workspace.create(room)

    async with asyncio.TaskGroup() as group:
        for _ in range(3):
            group.create_task(write())
        walks = [await walk(workspace, "/v1/runs", "runs", ("room_id", room), ("limit", n)) for n in (3, 10)]
        reading = False

    for rows in walks:
        run_ids = [row["run_id"] for row in rows]
        assert len(run_ids) == len(set(run_ids))
        assert set(run_ids) >= set(standing)


async def test_steps_come_oldest_first_in_pages_of_any_size(workspace: Workspace, room: str) -> None:
    run = await workspace.running(room)
    answers = await asyncio.gather(*(workspace.step(run["run_id"], f"k{n}") for n in range(17)))
    in_order = [answer["step_id"] for answer in sorted(answers, key=lambda answer: answer["stream_seq"])]
    await workspace.settle(room, 19)
    path = f"/v1/runs/{run['run_id']}/steps"

    for limit in (1, 5, 17, 200):
        walked = [page async for page in pages(workspace, path, "steps", ("limit", limit))]
        assert [step["step_id"] for page in walked for step in page] == in_order
        assert all(len(page) == limit for page in walked[:-1])


async def test_new_steps_between_the_pages_come_last(workspace: Workspace, room: str) -> None:
    run = await workspace.running(room)
    standing = [(await workspace.step(run["run_id"]))["step_id"] for _ in range(10)]
    await workspace.settle(room, 12)
    seen: list[str] = []
    late: list[str] = []

    async for page in pages(workspace, f"/v1/runs/{run['run_id']}/steps", "steps", ("limit", 3)):
        seen += [step["step_id"] for step in page]
        if len(late) < 4:
            step = await workspace.step(run["run_id"])
            late.append(step["step_id"])
            await workspace.settle(room, step["stream_seq"])

    assert seen == standing + late


async def test_more_than_two_hundred_steps(workspace: Workspace, room: str) -> None:
    run = await workspace.running(room)
    await asyncio.gather(*(workspace.step(run["run_id"]) for _ in range(205)))
    await workspace.settle(room, 207)

    first = await workspace.steps(run["run_id"])
    rest = await workspace.steps(run["run_id"], cursor=first["next_cursor"])

    seqs = [step["stream_seq"] for step in first["steps"] + rest["steps"]]
    assert (len(first["steps"]), len(rest["steps"]), rest["next_cursor"]) == (200, 5, None)
    assert seqs == list(range(3, 208))


# Cursors


@pytest.fixture
async def cursor(workspace: Workspace, room: str) -> str:
    """The cursor after the first of three runs of the room that have a tag and a thread."""
    await create_many(workspace, room, 3, tags=["t"], thread_id="th")
    page = await workspace.runs(room_id=room, status="queued", tag="t", limit=1)
    assert page["next_cursor"] is not None
    return page["next_cursor"]


@pytest.mark.parametrize(
    "change",
    [
        {"room_id": None}, {"room_id": "another"}, {"status": None}, {"status": "running"},
        {"status": ["queued", "running"]},
        {"tag": None}, {"tag": "u"}, {"tag": ["t", "u"]}, {"thread_id": "th"}, {"correlation_id": "c"},
        {"created_after": "2020-01-01T00:00:00Z"}, {"created_before": "2090-01-01T00:00:00Z"},
    ],
    ids=str,
)  # fmt: skip
async def test_a_cursor_from_other_filters(
    workspace: Workspace, room: str, cursor: str, change: dict[str, Any]
) -> None:
    filters = {"room_id": room, "status": "queued", "tag": "t"} | change
    params = {name: value for name, value in filters.items() if value is not None}

    expect.problem(await workspace.get("/v1/runs", params | {"cursor": cursor}), 400, "invalid_cursor")


async def test_the_size_of_a_page_is_no_filter(workspace: Workspace, room: str, cursor: str) -> None:
    page = await workspace.runs(room_id=room, status="queued", tag="t", limit=200, cursor=cursor)

    assert (len(page["runs"]), page["next_cursor"]) == (2, None)


async def test_a_cursor_serves_as_often_as_it_is_asked(workspace: Workspace, room: str, cursor: str) -> None:
    params = {"room_id": room, "status": "queued", "tag": "t", "limit": 1, "cursor": cursor}

    assert await workspace.runs(**params) == await workspace.runs(**params)


async def test_a_cursor_is_no_way_into_another_list(workspace: Workspace, room: str) -> None:
    """A cursor of another list, run or workspace is refused, or at most finds its place in the list it is given to."""
    run = await workspace.running(room)
    twin = await workspace.running(room)
    other = workspace.other()
    foreign = await other.running(room)
    for owner, run_id in ((workspace, run["run_id"]), (workspace, twin["run_id"]), (other, foreign["run_id"])):
        steps = [await owner.step(run_id) for _ in range(3)]
        await owner.settle(room, steps[-1]["stream_seq"])
    steps_cursor = (await workspace.steps(run["run_id"], limit=1))["next_cursor"]
    runs_cursor = (await workspace.runs(limit=1))["next_cursor"]

    expect.problem(await workspace.get("/v1/runs", {"cursor": steps_cursor}), 400, "invalid_cursor")
    steps_path = f"/v1/runs/{run['run_id']}/steps"
    expect.problem(await workspace.get(steps_path, {"cursor": runs_cursor}), 400, "invalid_cursor")
    refused_or_own(
        await workspace.get(f"/v1/runs/{twin['run_id']}/steps", {"cursor": steps_cursor}), "steps", twin["run_id"]
    )
    refused_or_own(
        await other.get(f"/v1/runs/{foreign['run_id']}/steps", {"cursor": steps_cursor}), "steps", foreign["run_id"]
    )
    refused_or_own(await other.get("/v1/runs", {"cursor": runs_cursor}), "runs", foreign["run_id"])


def refused_or_own(response: httpx.Response, rows: str, run_id: str) -> None:
    if response.status_code == 400:
        expect.problem(response, 400, "invalid_cursor")
    else:
        assert all(row["run_id"] == run_id for row in expect.page(response, rows)[rows])


async def test_a_cursor_that_was_tampered_with(workspace: Workspace, room: str, cursor: str) -> None:
    params = {"room_id": room, "status": "queued", "tag": "t"}
    flipped = [cursor[:i] + ("A" if cursor[i] != "A" else "B") + cursor[i + 1 :] for i in range(0, len(cursor), 3)]

    for bad in [*flipped, cursor[:-4], cursor[4:], cursor + "AAAA", cursor * 2]:
        response = await workspace.get("/v1/runs", params | {"cursor": bad})
        if response.status_code == 400:
            expect.problem(response, 400, "invalid_cursor")
        else:
            assert all(row["room_id"] == room for row in expect.page(response, "runs")["runs"])
