"""Tokens that are limited to rooms: what is in another room is not there, and not told from what never was."""

from __future__ import annotations

import pytest

from tests.contract import expect
from tests.contract.client import Workspace, fresh

from .deployment import Guarded

RUN_COMMANDS = [("start", None), ("complete", {}), ("fail", {}), ("steps", {"kind": "tool"})]


@pytest.fixture
def whole(guarded: Guarded) -> Workspace:
    return guarded.workspace()


def limited(guarded: Guarded, whole: Workspace, *rooms: str) -> Workspace:
    return guarded.workspace(whole.id, rooms=list(rooms))


async def test_a_run_of_another_room_is_missed_like_one_that_never_was(guarded: Guarded, whole: Workspace) -> None:
    run = await whole.running("b")
    await whole.settle("b", 2)
    narrow, nobody = limited(guarded, whole, "a"), expect.nobodys("run")

    def told(text: str, run_id: str) -> str:
        return text.replace(run_id, "ID")

    for suffix, params in (("", None), ("/steps", None), ("", {"min_seq": 1, "wait": 0}), ("/steps", {"min_seq": 2})):
        params = None if params is None else {"wait": 0, **params}
        theirs = await narrow.get(f"/v1/runs/{run['run_id']}{suffix}", params)
        missing = await narrow.get(f"/v1/runs/{nobody}{suffix}", params)
        assert theirs.status_code == missing.status_code == (404 if params is None else 503)
        assert told(theirs.text, run["run_id"]) == told(missing.text, nobody)
    for command, body in RUN_COMMANDS:
        theirs = await narrow.post(f"/v1/runs/{run['run_id']}/{command}", body)
        missing = await narrow.post(f"/v1/runs/{nobody}/{command}", body)
        expect.problem(theirs, 404, "run_not_found")
        assert told(theirs.text, run["run_id"]) == told(missing.text, nobody)
    assert (await whole.complete(run["run_id"]))["stream_seq"] == 3


async def test_a_stored_answer_about_another_room_is_not_given_again(guarded: Guarded, whole: Workspace) -> None:
    run = await whole.create("b")
    path, key = f"/v1/runs/{run['run_id']}/start", fresh("key")
    first = await whole.post(path, key=key)
    narrow = limited(guarded, whole, "a")

    refused = await narrow.post(path, key=key)

    expect.problem(refused, 404, "run_not_found")
    assert "idempotency-replayed" not in refused.headers
    again = await whole.post(path, key=key)
    assert (again.headers["idempotency-replayed"], again.content) == ("true", first.content)
    wide = await limited(guarded, whole, "a", "b").post(path, key=key)
    assert (wide.headers["idempotency-replayed"], wide.content) == ("true", first.content)


async def test_a_stored_creation_in_another_room_is_not_given_again(guarded: Guarded, whole: Workspace) -> None:
    key = fresh("key")
    expect.accepted(await whole.post("/v1/runs", {"room_id": "b"}, key=key), 201)
    narrow = limited(guarded, whole, "a")

    expect.problem(await narrow.post("/v1/runs", {"room_id": "b"}, key=key), 403, "insufficient_scope")
    expect.problem(await narrow.post("/v1/runs", {"room_id": "a"}, key=key), 422, "idempotency_key_reused")


async def test_its_own_room_is_written_to_and_read(guarded: Guarded, whole: Workspace) -> None:
    narrow = limited(guarded, whole, "a", "c")
    run = await narrow.running("a")
    await narrow.step(run["run_id"])
    done = await narrow.complete(run["run_id"])
    assert (await narrow.run(run["run_id"], done["stream_seq"]))["status"] == "succeeded"
    assert len((await narrow.steps(run["run_id"]))["steps"]) == 1
    expect.gapless(await narrow.feed("a", done["stream_seq"]))


@pytest.mark.parametrize(
    "filters", [{}, {"status": ["queued", "running"]}, {"tag": "x"}, {"status": "queued", "tag": "x"}]
)
async def test_a_list_holds_the_runs_of_its_rooms_page_by_page(
    guarded: Guarded, whole: Workspace, filters: dict[str, object]
) -> None:
    created = [
        (room, (await whole.create(room, tags=["x", room]))["run_id"])
        for _ in range(5)
        for room in ("a", "b", "c", "d")
    ]
    for room in "abcd":
        await whole.settle(room, 5)

    for rooms in (("a", "c"), ("a",), ("a", "b", "c", "d"), ("nobody", "d", "b"), ()):
        narrow, found, cursor = limited(guarded, whole, *rooms), [], None
        while True:
            params = {**filters, "limit": 3, **({} if cursor is None else {"cursor": cursor})}
            page = await narrow.runs(**params)
            found += [run["run_id"] for run in page["runs"]]
            if (cursor := page["next_cursor"]) is None:
                break
        assert found == [run_id for room, run_id in reversed(created) if room in rooms]


async def test_a_cursor_belongs_to_the_rooms_it_came_from(guarded: Guarded, whole: Workspace) -> None:
    for room in ("a", "b", "c") * 2:
        await whole.create(room)
    for room in "abc":
        await whole.settle(room, 2)
    cursors: dict[tuple[str, ...], str | None] = {
        rooms: (await limited(guarded, whole, *rooms).runs(limit=1))["next_cursor"] for rooms in (("a", "b"), ("a",))
    }
    cursors[()] = (await whole.runs(limit=1))["next_cursor"]

    for owner, cursor in cursors.items():
        assert cursor is not None
        for rooms in {("a", "b"), ("a",), ("b", "c")} - {owner}:
            answer = await limited(guarded, whole, *rooms).get("/v1/runs", {"cursor": cursor})
            expect.problem(answer, 400, "invalid_cursor")


async def test_a_room_that_is_asked_for_has_to_be_one_of_its_own(guarded: Guarded, whole: Workspace) -> None:
    narrow = limited(guarded, whole, "a")
    expect.problem(await narrow.get("/v1/runs", {"room_id": "b"}), 403, "insufficient_scope")
    expect.problem(await narrow.get("/v1/runs", {"room_id": "b", "min_seq": 1}), 403, "insufficient_scope")
    expect.problem(await narrow.post("/v1/runs", {"room_id": "b"}), 403, "insufficient_scope")
    expect.problem(await narrow.no_stream("b"), 403, "insufficient_scope")
    expect.problem(await narrow.get("/v1/runs", {"min_seq": 1}), 400, "missing_room_id")
    # Nothing was written there, and no room was made.
    assert (await whole.create("b"))["stream_seq"] == 1


async def test_the_actor_of_an_event_is_the_tokens(guarded: Guarded) -> None:
    own = guarded.workspace(sub="agent 7", actor_type="agent")
    headers = {**own.credentials, "x-actor-type": "user", "x-actor-id": "somebody"}
    expect.accepted(await own.post("/v1/runs", {"room_id": "r"}, headers=headers), 201)
    (event,) = await own.feed("r", 1)
    assert (event.envelope["actor_type"], event.envelope["actor_id"]) == ("agent", "agent 7")
