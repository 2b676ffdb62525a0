"""Whatever one workspace sends, nothing of another comes back: cursors, ids and subjects made by hand.

Two workspaces use the same room names. Everything the other one holds has its name in it, so that a leak shows in any
answer. The attempts are made by hypothesis, the same each time.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar
from urllib.parse import quote

import httpx
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from . import expect
from .client import Workspace

SECRET = "belongs-to-the-other-one"
ROOM = "shared-name"
ATTEMPTS = settings(
    max_examples=150,
    derandomize=True,
    database=None,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.function_scoped_fixture],
)
T = TypeVar("T")


@pytest.fixture
async def other(workspace: Workspace) -> dict[str, Any]:
    """What the other workspace has: a run with steps, cursors of its lists, and a room of the same name."""
    other = workspace.other()
    run = await other.running(ROOM, title=SECRET, tags=[SECRET], input={"s": SECRET})
    await other.step(run["run_id"], title=SECRET)
    step = await other.step(run["run_id"], title=SECRET)
    await other.create(ROOM, title=SECRET)
    last = await other.create(ROOM, title=SECRET)
    await other.settle(ROOM, last["stream_seq"])
    runs = await other.runs(limit=1, room_id=ROOM)
    steps = await other.steps(run["run_id"], limit=1)
    return {
        "workspace": other.id,
        "run_id": run["run_id"],
        "step_id": step["step_id"],
        "cursors": [runs["next_cursor"], steps["next_cursor"]],
    }


async def attempts(strategy: st.SearchStrategy[T], attempt: Callable[[T], Awaitable[None]]) -> None:
    """Each example of the strategy, a few at a time."""
    examples: list[T] = []

    @ATTEMPTS
    @given(strategy)
    def collect(example: T) -> None:
        examples.append(example)

    collect()
    assert len(examples) >= 50
    for start in range(0, len(examples), 20):
        await asyncio.gather(*(attempt(example) for example in examples[start : start + 20]))


def nothing_of_the_other(response: httpx.Response) -> None:
    assert response.status_code < 500, response.text
    assert SECRET not in response.text
    if response.status_code >= 400:
        assert response.headers["content-type"] == "application/problem+json"


def flipped(cursor: str, bits: list[int]) -> str:
    raw = bytearray(base64.urlsafe_b64decode(cursor + "=="))
    for bit in bits:
        raw[bit // 8 % len(raw)] ^= 1 << bit % 8
    return base64.urlsafe_b64encode(bytes(raw)).decode().rstrip("=")


async def test_cursors_made_by_hand(workspace: Workspace, other: dict[str, Any]) -> None:
    await workspace.create(ROOM, title="own")
    own = await workspace.create(ROOM, title="own")
    await workspace.settle(ROOM, own["stream_seq"])
    mine = (await workspace.runs(limit=1, room_id=ROOM))["next_cursor"]
    cursors = st.one_of(
        st.builds(flipped, st.sampled_from([mine, *other["cursors"]]), st.lists(st.integers(0, 8 * 60), max_size=4)),
        st.builds(lambda raw: base64.urlsafe_b64encode(raw).decode(), st.binary(max_size=80)),
        st.builds(
            lambda a, b, at: a[:at] + b[at:], st.just(mine), st.sampled_from(other["cursors"]), st.integers(0, 60)
        ),
        st.text(max_size=60),
        st.builds(lambda letter, count: letter * count, st.sampled_from("A_-="), st.integers(1000, 8000)),
    )

    async def attempt(cursor: str) -> None:
        for path in ("/v1/runs", f"/v1/runs/{own['run_id']}/steps"):
            response = await workspace.get(path, {"cursor": cursor, "room_id": ROOM, "limit": "1"})
            nothing_of_the_other(response)
            if response.status_code == 200:
                rows = response.json().get("runs", response.json().get("steps"))
                assert {row["workspace_id"] for row in rows} <= {workspace.id}
            else:
                expect.problem(response, 400, "invalid_cursor")

    await attempts(cursors, attempt)


async def test_the_ids_of_others_are_nobodys(workspace: Workspace, other: dict[str, Any]) -> None:
    for run_id in (other["run_id"], other["step_id"]):
        for suffix in ("", "/steps"):
            expect.problem(await workspace.get(f"/v1/runs/{run_id}{suffix}"), 404, "run_not_found")
        for verb in ("start", "complete", "fail"):
            expect.problem(await workspace.post(f"/v1/runs/{run_id}/{verb}"), 404, "run_not_found")
        response = await workspace.post(f"/v1/runs/{run_id}/steps", {"kind": "k"})
        expect.problem(response, 404, "run_not_found")


PIECES = st.sampled_from([
    "*", ">", ".", "..", "/", "%2F", "%2e", "%00", " ", "\u2028", "é", "rooms.", "$JS.API", ROOM, "'", '"', ";", "--",
    "\\", "\n", "\0", "{", "}", "a", "_", "-", "日",
])  # fmt: skip


async def test_rooms_made_by_hand(workspace: Workspace, other: dict[str, Any]) -> None:
    """Names that would mean something else where they become subjects, paths or parts of a statement."""
    prefixes = st.sampled_from(["", f"{other['workspace']}.", f"../{other['workspace']}/", f"*.{other['workspace']}."])
    rooms = st.builds(lambda prefix, parts: prefix + "".join(parts), prefixes, st.lists(PIECES, max_size=6))

    async def attempt(room: str) -> None:
        nothing_of_the_other(await workspace.get("/v1/runs", {"room_id": room}))
        nothing_of_the_other(await workspace.post("/v1/runs", {"room_id": room}))
        if printable(room) and room != other["workspace"]:
            nothing_of_the_other(await workspace.get("/v1/runs", headers={"x-workspace-id": room}))
        if not token(room):
            asked = quote(room, safe="")
            async with workspace.asked_stream(asked) as stream:
                assert stream.response.status_code in {400, 404}, room

    await attempts(rooms, attempt)
    async with workspace.stream(ROOM) as stream:
        history, _ = await stream.caught_up()
    assert all(event.envelope["workspace_id"] == workspace.id for event in history)


def token(text: str) -> bool:
    return 0 < len(text) <= 128 and all(c.isascii() and (c.isalnum() or c in "_-") for c in text)


def printable(text: str) -> bool:
    return bool(text.strip()) and all(" " <= c <= "~" for c in text) and text == text.strip()
