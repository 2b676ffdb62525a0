"""A key names one outcome for good: asked again it is answered again, and nothing happens twice."""

from __future__ import annotations

import asyncio

import httpx
import pytest

from . import expect
from .client import Workspace, fresh


def replay_of(first: httpx.Response, again: httpx.Response) -> None:
    """Hold an answer against the stored one: the same status and body, and the header that says so."""
    assert again.status_code == first.status_code, again.text
    assert again.json() == first.json()
    assert again.headers["content-type"] == first.headers["content-type"]
    assert again.headers["idempotency-replayed"] == "true"


async def test_every_command_is_answered_again(workspace: Workspace, room: str) -> None:
    run = expect.accepted(await workspace.post("/v1/runs", {"room_id": room}), 201)
    path = f"/v1/runs/{run['run_id']}"
    commands = [
        ("/v1/runs", {"room_id": room, "title": "keyed"}),
        (f"{path}/start", None),
        (f"{path}/steps", {"kind": "k", "input": {"a": 1}}),
        (f"{path}/fail", {"message": "m"}),
    ]
    keys = [fresh("key") for _ in commands]
    firsts = [await workspace.post(p, body, key=key) for (p, body), key in zip(commands, keys, strict=True)]
    assert [first.status_code for first in firsts] == [201, 200, 201, 200]
    assert all("idempotency-replayed" not in first.headers for first in firsts)

    # Asked again only now: a replay is the stored outcome, whatever state the run is in since.
    for (p, body), key, first in zip(commands, keys, firsts, strict=True):
        replay_of(first, await workspace.post(p, body, key=key))

    after = await workspace.create(room)
    assert after["stream_seq"] == 1 + len(commands) + 1, "a replay writes no event"


async def test_member_order_and_white_space_do_not_matter(workspace: Workspace, room: str) -> None:
    key = fresh("key")
    one = f'{{"room_id":"{room}","title":"é","input":{{"a":1,"b":{{"c":2,"d":3}}}},"tags":["x","y"]}}'
    two = '\n{ "tags" : [ "x", "y" ],\t"input": {"b": {"d": 3, "c": 2}, "a": 1}, "title": "\\u00e9", '
    two += f'"room_id": "{room}" }} '

    first = await workspace.post("/v1/runs", content=one.encode(), key=key)

    assert first.status_code == 201, first.text
    replay_of(first, await workspace.post("/v1/runs", content=two.encode(), key=key))


async def test_an_empty_body_and_an_empty_object_are_the_same(workspace: Workspace, room: str) -> None:
    run = await workspace.create(room)
    key = fresh("key")

    first = await workspace.post(f"/v1/runs/{run['run_id']}/start", key=key)

    assert first.status_code == 200, first.text
    replay_of(first, await workspace.post(f"/v1/runs/{run['run_id']}/start", {}, key=key))


@pytest.mark.parametrize("command", ["create", "step"])
async def test_at_the_same_time_there_is_one_event_and_one_answer(
    workspace: Workspace, room: str, command: str
) -> None:
    run = await workspace.running(room)
    path, body = "/v1/runs", {"room_id": room, "title": "once"}
    if command == "step":
        path, body = f"/v1/runs/{run['run_id']}/steps", {"kind": "once"}
    key = fresh("key")

    responses = await asyncio.gather(*(workspace.post(path, body, key=key) for _ in range(16)))

    assert {response.status_code for response in responses} == {201}
    assert len({response.text for response in responses}) == 1
    replayed = [response.headers.get("idempotency-replayed") for response in responses]
    assert sorted(map(str, replayed)) == ["None"] + ["true"] * 15
    after = await workspace.create(room)
    assert after["stream_seq"] == run["stream_seq"] + 2


async def test_many_keys_at_once_each_have_their_own_outcome(workspace: Workspace, room: str) -> None:
    """The twins of a key follow each other at once, so that a deployment that commits in groups has them in one."""
    await asyncio.gather(*(workspace.http.get(f"{workspace.command_url}/healthz") for _ in range(80)))
    answers: dict[str, set[str]] = {}
    for _ in range(3):
        keys = [key for key in (fresh("key") for _ in range(20)) for _ in range(4)]
        responses = await asyncio.gather(*(workspace.post("/v1/runs", {"room_id": room}, key=key) for key in keys))
        for key, response in zip(keys, responses, strict=True):
            answers.setdefault(key, set()).add(expect.accepted(response, 201)["event_id"])

    assert all(len(events) == 1 for events in answers.values())
    assert len(set().union(*answers.values())) == 60
    assert (await workspace.create(room))["stream_seq"] == 61


async def test_a_key_with_another_body_or_path_is_refused(workspace: Workspace, room: str) -> None:
    key = fresh("key")
    run = expect.accepted(await workspace.post("/v1/runs", {"room_id": room}, key=key), 201)
    twin = await workspace.create(room)
    start_key = fresh("key")
    expect.accepted(await workspace.post(f"/v1/runs/{run['run_id']}/start", key=start_key), 200)

    others = [
        await workspace.post("/v1/runs", {"room_id": room, "title": "other"}, key=key),
        await workspace.post("/v1/runs", {"room_id": room, "input": {"a": 1}}, key=key),
        await workspace.post("/v1/runs", {"room_id": f"{room}-b"}, key=key),
        await workspace.post(f"/v1/runs/{run['run_id']}/complete", key=start_key),
        await workspace.post(f"/v1/runs/{twin['run_id']}/start", key=start_key),
    ]

    for response in others:
        expect.problem(response, 422, "idempotency_key_reused")
    after = await workspace.create(room)
    assert after["stream_seq"] == 4, "a refused key writes no event"


async def test_values_that_only_look_alike_are_another_body(workspace: Workspace, room: str) -> None:
    key = fresh("key")
    bodies = [{"a": 1}, {"a": "1"}, {"a": True}, {"a": [1]}, {"a": None}]
    first = await workspace.post("/v1/runs", {"room_id": room, "input": bodies[0]}, key=key)
    assert first.status_code == 201, first.text

    for other in bodies[1:]:
        response = await workspace.post("/v1/runs", {"room_id": room, "input": other}, key=key)
        expect.problem(response, 422, "idempotency_key_reused")


async def test_keys_belong_to_their_workspace(workspace: Workspace, room: str) -> None:
    key, other = fresh("key"), workspace.other()

    mine = await workspace.post("/v1/runs", {"room_id": room}, key=key)
    theirs = await other.post("/v1/runs", {"room_id": room, "title": "not the same body"}, key=key)

    assert expect.accepted(mine, 201)["run_id"] != expect.accepted(theirs, 201)["run_id"]
    replay_of(mine, await workspace.post("/v1/runs", {"room_id": room}, key=key))


async def test_a_refusal_stores_nothing(workspace: Workspace, room: str) -> None:
    run = await workspace.create(room)
    path, key = f"/v1/runs/{run['run_id']}/steps", fresh("key")
    body = {"kind": "k"}
    expect.problem(await workspace.post(path, body, key=key), 409, "run_not_running")
    expect.problem(await workspace.post(path, {"kind": 7}, key=key), 400, "invalid_request")
    expect.problem(await workspace.post("/v1/runs", {}, key=key), 400, "missing_room_id")
    expect.problem(await workspace.post(f"/v1/runs/{expect.nobodys('run')}/start", key=key), 404, "run_not_found")
    await workspace.start(run["run_id"])

    first = await workspace.post(path, body, key=key)

    expect.accepted(first, 201, step=True)
    assert "idempotency-replayed" not in first.headers
    replay_of(first, await workspace.post(path, body, key=key))


async def test_without_a_key_the_same_body_is_a_new_command(workspace: Workspace, room: str) -> None:
    first, second = await workspace.create(room), await workspace.create(room)

    assert first["run_id"] != second["run_id"]
    assert second["stream_seq"] == first["stream_seq"] + 1


@pytest.mark.parametrize("key", ["k", "x" * 255, "~!@#$%^&*()[]{};:'\",.<>/?|\\`"])
async def test_a_key_is_up_to_255_printable_characters(workspace: Workspace, room: str, key: str) -> None:
    first = await workspace.post("/v1/runs", {"room_id": room}, key=key)

    expect.accepted(first, 201)
    replay_of(first, await workspace.post("/v1/runs", {"room_id": room}, key=key))


@pytest.mark.parametrize("key", ["x" * 256, "x" * 5000, "a\tb", ""], ids=["256", "5000", "tab", "empty"])
async def test_any_other_key_is_refused(workspace: Workspace, room: str, key: str) -> None:
    expect.problem(await workspace.post("/v1/runs", {"room_id": room}, key=key), 400, "invalid_request")

    assert (await workspace.create(room))["stream_seq"] == 1
