"""Lists by tags over so many runs that each way of looking for them is the best for some list."""

from __future__ import annotations

import asyncio
import itertools
import random
from datetime import timedelta
from typing import Any

import pytest

from shared.contracts.times import format_time

from .service import QueryService
from .world import NOON, Projections, run_row

WORKSPACE = "ws_tagged"
STATES = ["queued", "running", "succeeded", "failed"]
RUNS = 2000
_MOST = 200


@pytest.fixture(scope="module")
async def population(projections: Projections) -> list[dict[str, Any]]:
    """Newest first. Tags, rooms and states of a few runs and of most of them, and some that are of the oldest only."""
    dice = random.Random(7)
    runs: list[dict[str, Any]] = []
    for number in range(RUNS):
        tags = [tag for tag, share in (("most", 0.9), ("half", 0.5), ("few", 0.06)) if dice.random() < share]
        tags += ["half"] if dice.random() < 0.1 else []  # some runs have it twice
        if number < RUNS // 4:
            tags.append("old")
        runs.append(
            run_row(
                run_id=f"run_{dice.getrandbits(100):031x}",
                workspace_id=WORKSPACE,
                room_id=dice.choices(["hall", "lab", "nook"], [70, 25, 5])[0],
                thread_id=dice.choice([None, "thread"]),
                status=dice.choices(STATES, [1, 6, 83, 10])[0],
                tags=dice.sample(tags, len(tags)),
                correlation_id=f"c{number % 3}",
                minute=number // 2,
                stream_seq=number + 1,
            )
        )
    names = list(runs[0])
    places = ", ".join(f"${number}" for number in range(1, len(names) + 1))
    insert = f"insert into proj_runs ({', '.join(names)}) values ({places})"
    await projections.connection.executemany(insert, [tuple(run.values()) for run in runs])
    return sorted(runs, key=lambda run: (run["created_at"], run["run_id"]), reverse=True)


def _matches(run: dict[str, Any], given: list[tuple[str, Any]]) -> bool:
    statuses = [value for name, value in given if name == "status"]
    return (not statuses or run["status"] in statuses) and all(
        value in run["tags"]
        if name == "tag"
        else run["created_at"] > NOON + timedelta(minutes=value)
        if name == "created_after"
        else run["created_at"] < NOON + timedelta(minutes=value)
        if name == "created_before"
        else run[name] == value
        for name, value in given
        if name != "status"
    )


TAGS = [["most"], ["few"], ["old"], ["most", "few"], ["half", "old"], ["few", "half", "most"], ["few", "none"]]
OTHERS: dict[str, list[list[tuple[str, Any]]]] = {
    "room_id": [[], [("room_id", "hall")], [("room_id", "nook")]],
    "thread_id": [[], [("thread_id", "thread")]],
    "status": [[], [("status", "queued")], [("status", "succeeded")], [("status", "running"), ("status", "failed")]],
    "correlation_id": [[], [("correlation_id", "c1")]],
    "created": [[], [("created_after", 100), ("created_before", 700)]],
}


async def _listed(query: QueryService, given: list[tuple[str, Any]], limit: int) -> list[str]:
    params = [
        (name, format_time(NOON + timedelta(minutes=value)) if name.startswith("created_") else value)
        for name, value in given
    ]
    runs: list[str] = []
    cursor: str | None = None
    while True:
        page = [*params, ("limit", str(limit)), *([("cursor", cursor)] if cursor else [])]
        response = await query.get("/v1/runs", page, x_workspace_id=WORKSPACE)
        assert response.status_code == 200, response.text
        body = response.json()
        assert len(body["runs"]) <= limit
        runs += [run["run_id"] for run in body["runs"]]
        assert len(runs) <= RUNS, "pages repeat"
        cursor = body["next_cursor"]
        if cursor is None:
            return runs


async def test_every_combination_with_tags(query: QueryService, population: list[dict[str, Any]]) -> None:
    lists = [
        [("tag", tag) for tag in tags] + list(itertools.chain(*others))
        for tags in TAGS
        for others in itertools.product(*OTHERS.values())
    ]

    async def check(part: list[list[tuple[str, Any]]]) -> None:
        for given in part:
            expected = [run["run_id"] for run in population if _matches(run, given)]
            assert await _listed(query, given, _MOST) == expected, given

    await asyncio.gather(*(check(lists[start::4]) for start in range(4)))


@pytest.mark.parametrize("limit", [1, 7])
async def test_small_pages_are_the_whole_list(
    query: QueryService, population: list[dict[str, Any]], limit: int
) -> None:
    """What the best way is changes from page to page: the tag is that of the oldest runs."""
    for given in ([("tag", "few"), ("tag", "half")], [("tag", "old"), ("status", "failed")], [("tag", "few")]):
        expected = [run["run_id"] for run in population if _matches(run, given)]
        assert len(expected) > 20
        assert await _listed(query, given, limit) == expected
