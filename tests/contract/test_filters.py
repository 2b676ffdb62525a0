"""A list holds exactly the runs that match every filter given, newest created first."""

from __future__ import annotations

from datetime import timedelta, timezone
from typing import Any

import pytest

from . import expect
from .client import Workspace, fresh


class Population:
    """Runs that differ in every member a filter looks at, by name, oldest first."""

    def __init__(self, workspace: Workspace, room: str) -> None:
        self.workspace, self.room, self.side = workspace, room, f"{room}-side"
        self.ids: dict[str, str] = {}
        self.rows: dict[str, dict[str, Any]] = {}

    async def write(self) -> None:
        make = self.workspace.create
        self.ids["plain"] = (await make(self.room))["run_id"]
        self.ids["threaded"] = (await make(self.room, thread_id="t1", tags=["red"]))["run_id"]
        self.ids["tagged"] = (await make(self.room, tags=["red", "blue"], correlation_id="corr-a"))["run_id"]
        self.ids["both"] = (await make(self.room, thread_id="t1", tags=["blue", "red", "x y,z"]))["run_id"]
        self.ids["elsewhere"] = (await make(self.side, thread_id="t1", correlation_id="corr-a"))["run_id"]
        await self.workspace.start(self.ids["threaded"])
        await self.workspace.complete(self.ids["tagged"])
        last = await self.workspace.fail(self.ids["both"])
        await self.workspace.settle(self.side, 1)
        await self.workspace.settle(self.room, last["stream_seq"])
        by_id = {row["run_id"]: row for row in (await self.workspace.runs())["runs"]}
        self.rows = {name: by_id[run_id] for name, run_id in self.ids.items()}

    async def listed(self, *params: tuple[str, str]) -> list[str]:
        """Return the names of the runs in the list of these filters."""
        page = expect.page(await self.workspace.get("/v1/runs", list(params)), "runs")
        names = {run_id: name for name, run_id in self.ids.items()}
        return [names[row["run_id"]] for row in page["runs"]]


@pytest.fixture
async def population(workspace: Workspace, room: str) -> Population:
    population = Population(workspace, room)
    await population.write()
    return population


async def test_each_filter_and_all_of_them_together(population: Population) -> None:
    room, side = population.room, population.side
    expected = {
        (): ["elsewhere", "both", "tagged", "threaded", "plain"],
        (("room_id", room),): ["both", "tagged", "threaded", "plain"],
        (("room_id", side),): ["elsewhere"],
        (("room_id", fresh("room")),): [],
        (("thread_id", "t1"),): ["elsewhere", "both", "threaded"],
        (("thread_id", "t1"), ("room_id", room)): ["both", "threaded"],
        (("thread_id", "t"),): [],
        (("status", "queued"),): ["elsewhere", "plain"],
        (("status", "running"),): ["threaded"],
        (("status", "succeeded"),): ["tagged"],
        (("status", "failed"),): ["both"],
        (("status", "failed"), ("status", "running")): ["both", "threaded"],
        (("status", "queued"), ("status", "queued")): ["elsewhere", "plain"],
        (("tag", "red"),): ["both", "tagged", "threaded"],
        (("tag", "red"), ("tag", "blue")): ["both", "tagged"],
        (("tag", "red"), ("tag", "blue"), ("tag", "x y,z")): ["both"],
        (("tag", "red"), ("tag", "green")): [],
        (("tag", "re"),): [],
        (("tag", "RED"),): [],
        (("correlation_id", "corr-a"),): ["elsewhere", "tagged"],
        (("correlation_id", "corr-a"), ("room_id", side)): ["elsewhere"],
        (("correlation_id", "corr-a"), ("tag", "red"), ("status", "succeeded"), ("room_id", room)): ["tagged"],
        (("status", "failed"), ("tag", "blue"), ("thread_id", "t1"), ("room_id", room)): ["both"],
        (("status", "running"), ("tag", "blue")): [],
    }
    for params, names in expected.items():
        assert await population.listed(*params) == names, params


async def test_a_filter_on_a_minted_correlation_id(population: Population) -> None:
    minted = population.rows["plain"]["correlation_id"]

    assert await population.listed(("correlation_id", minted)) == ["plain"]


async def test_a_span_of_time(population: Population) -> None:
    """Bounds are set between two creations, where after and before mean the same to everybody."""
    made = {name: expect.instant(row["created_at"]) for name, row in population.rows.items()}
    middle = made["threaded"] + (made["tagged"] - made["threaded"]) / 2
    late = made["both"] + (made["elsewhere"] - made["both"]) / 2
    assert made["plain"] < made["threaded"] < middle < made["tagged"] < made["both"] < late < made["elsewhere"]
    after, before = ("created_after", middle.isoformat()), ("created_before", late.isoformat())

    assert await population.listed(after) == ["elsewhere", "both", "tagged"]
    assert await population.listed(before) == ["both", "tagged", "threaded", "plain"]
    assert await population.listed(after, before) == ["both", "tagged"]
    assert await population.listed(after, before, ("status", "failed"), ("room_id", population.room)) == ["both"]
    assert await population.listed(("created_after", late.isoformat()), ("created_before", middle.isoformat())) == []
    assert (
        await population.listed(("created_after", "2020-01-01T00:00:00Z"), ("created_before", "2021-01-01T00:00:00Z"))
        == []
    )
    assert len(await population.listed(("created_after", "2020-01-01T00:00:00Z"))) == 5
    zulu = ("created_after", middle.isoformat().replace("+00:00", "Z"))
    abroad = ("created_after", middle.astimezone(timezone(timedelta(hours=5, minutes=30))).isoformat())
    assert await population.listed(zulu) == await population.listed(abroad) == ["elsewhere", "both", "tagged"]


async def test_the_bounds_themselves_leave_out_the_rest(population: Population) -> None:
    at = population.rows["tagged"]["created_at"]
    after, before = await population.listed(("created_after", at)), await population.listed(("created_before", at))

    assert [name for name in after if name != "tagged"] == ["elsewhere", "both"]
    assert [name for name in before if name != "tagged"] == ["threaded", "plain"]
