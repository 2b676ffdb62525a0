"""What PostgreSQL cannot hold, and what is no JSON, is refused before its commit: a 400, and the room goes on."""

from __future__ import annotations

import pytest

from . import expect
from .client import Workspace

NUL, HIGH, LOW = r"\u0000", r"\ud800", r"\udc00"
UNHOLDABLE = {
    "NUL": NUL, "NUL inside": f"a{NUL}b", "high surrogate": HIGH, "low surrogate": f"x{LOW}y",
    "pair reversed": LOW + HIGH, "high before text": f"{HIGH}abc",
}  # fmt: skip


@pytest.mark.parametrize("text", UNHOLDABLE.values(), ids=UNHOLDABLE)
async def test_text_no_database_holds(workspace: Workspace, room: str, text: str) -> None:
    run = await workspace.running(room)
    path = f"/v1/runs/{run['run_id']}"
    bodies = [
        ("/v1/runs", f'{{"room_id":"{room}","title":"{text}"}}'),
        ("/v1/runs", f'{{"room_id":"{room}","goal":"{text}"}}'),
        ("/v1/runs", f'{{"room_id":"{room}","tags":["ok","{text}"]}}'),
        ("/v1/runs", f'{{"room_id":"{room}","input":{{"a":{{"b":["{text}"]}}}}}}'),
        ("/v1/runs", f'{{"room_id":"{room}","input":{{"a":{{"{text}":1}}}}}}'),
        ("/v1/runs", f'{{"room_id":"{room}","correlation_id":"{text}"}}'),
        ("/v1/runs", f'{{"room_id":"{room}","causation_id":"{text}"}}'),
        ("/v1/runs", f'{{"room_id":"{room}","thread_id":"{text}"}}'),
        ("/v1/runs", f'{{"room_id":"{text}"}}'),
        ("/v1/runs", f'{{"room_id":"{room}","{text}":1}}'),
        (f"{path}/steps", f'{{"kind":"{text}"}}'),
        (f"{path}/steps", f'{{"kind":"k","title":"{text}"}}'),
        (f"{path}/steps", f'{{"kind":"k","input":{{"{text}":1}}}}'),
        (f"{path}/complete", f'{{"summary":"{text}"}}'),
        (f"{path}/complete", f'{{"output":{{"a":"{text}"}}}}'),
        (f"{path}/fail", f'{{"message":"{text}"}}'),
        (f"{path}/fail", f'{{"error":{{"a":"{text}"}}}}'),
    ]

    for target, body in bodies:
        expect.problem(await workspace.post(target, content=body.encode()), 400, "invalid_request")

    assert (await workspace.step(run["run_id"]))["stream_seq"] == 3
    await workspace.alive(room, run)


@pytest.mark.parametrize(
    "value",
    [
        "NaN", "Infinity", "-Infinity", "1e999999", "-1e999999", "1e131072", "1e-999999",
        "9" * 140_000, "0." + "1" * 20_000,
        "[" * 200_000 + "]" * 200_000, '{"a":' * 50_000 + "1" + "}" * 50_000,
    ],
    ids=["nan", "inf", "-inf", "1e999999", "-1e999999", "1e131072", "1e-999999", "140k digits", "20k decimals",
         "200k lists", "50k objects"],
)  # fmt: skip
async def test_numbers_and_nesting_beyond_the_limits(workspace: Workspace, room: str, value: str) -> None:
    run = await workspace.running(room)
    bodies = [
        ("/v1/runs", f'{{"room_id":"{room}","input":{{"v":{value}}}}}'),
        (f"/v1/runs/{run['run_id']}/steps", f'{{"kind":"k","input":{{"v":{value}}}}}'),
        (f"/v1/runs/{run['run_id']}/complete", f'{{"output":{{"v":{value}}}}}'),
    ]

    for target, body in bodies:
        response = await workspace.post(target, content=body.encode())
        if value in {"1e-999999", "0." + "1" * 20_000} and response.status_code < 300:
            continue  # Both are near a number every database holds; a reader of doubles sees just that.
        expect.problem(response, 400, "invalid_request")

    await workspace.alive(room, run)


@pytest.mark.parametrize(
    "content",
    [
        b'{"room_id":"ROOM","title":"\xff"}', b'{"room_id":"ROOM","title":"\xed\xa0\x80"}',
        b'{"room_id":"ROOM","title":"\xc0\x80"}', b'{"room_id":"ROOM","title":"\xf4\x90\x80\x80"}',
        b'{"room_id":"ROOM","title":"\xe2\x82"}', b'{"room_id":"ROOM","in\xffput":{}}',
        '{"room_id":"ROOM"}'.encode("utf-16"), b'{"room_id":"ROOM","title":"a\nb"}',
        b'{"room_id":"ROOM","title":"a\x00b"}',
        b'{"room_id":"ROOM","title":"\\x"}', b"{'room_id':'ROOM'}", b'{"room_id":"ROOM",}',
        b'{"room_id":"ROOM","input":{"n":01}}',
        b'\x1f\x8b\x08\x00',
    ],
)  # fmt: skip
async def test_bytes_that_are_no_json(workspace: Workspace, room: str, content: bytes) -> None:
    response = await workspace.post("/v1/runs", content=content.replace(b"ROOM", room.encode()))

    expect.problem(response, 400, "invalid_request")
    assert (await workspace.create(room))["stream_seq"] == 1
