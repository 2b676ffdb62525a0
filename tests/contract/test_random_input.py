"""No input makes a 500, and what was accepted comes back as it was given: tried with much that nobody thought of.

Each test is seeded, so what fails once fails again.
"""

from __future__ import annotations

import asyncio
import json
import random
import string
from typing import Any

import httpx
import pytest

from . import expect
from .client import Workspace

PIECES = (b"", b'"', b"\\", b"\\u0000", b"\\ud83d", b"{", b"]", b"e999", b"null")


def spoilt(rng: random.Random, text: bytes) -> bytes:
    """Return the text with a few of its bytes changed, dropped, doubled or moved."""
    spoilt = bytearray(text)
    for _ in range(rng.randint(1, 4)):
        start = rng.randrange(len(spoilt) + 1)
        end = min(len(spoilt), start + rng.randint(0, 6))
        spoilt[start:end] = rng.choice([*PIECES, rng.randbytes(1), spoilt[start:end] * 2])
    return bytes(spoilt)


@pytest.mark.parametrize("seed", range(4))
async def test_spoilt_bodies_make_no_server_error(workspace: Workspace, room: str, seed: int) -> None:
    rng = random.Random(seed)
    run = await workspace.running(room)
    whole = {
        "": {"room_id": room, "title": "t", "tags": ["a"], "input": {"n": [1.5, {"x": None}]}, "correlation_id": "c"},
        "/steps": {"kind": "k", "title": "é", "input": {"deep": [[[{}]]]}},
    }

    async def send(verb: str) -> httpx.Response:
        path = f"/v1/runs/{run['run_id']}{verb}" if verb else "/v1/runs"
        return await workspace.post(path, content=spoilt(rng, json.dumps(whole[verb]).encode()))

    responses = await asyncio.gather(*(send(verb) for verb in whole for _ in range(60)))

    for response in responses:
        if response.status_code != 201:
            expect.problem(response, 400, "invalid_request", "missing_room_id", "missing_kind")
    await workspace.alive(room, run)


@pytest.mark.parametrize("seed", range(2))
async def test_spoilt_queries_make_no_server_error(workspace: Workspace, room: str, seed: int) -> None:
    rng = random.Random(seed)
    run = await workspace.create(room)
    await workspace.create(room)
    await workspace.settle(room, 2)
    cursor = (await workspace.runs(limit=1))["next_cursor"]
    query = f"room_id={room}&status=queued&tag=a&created_after=2026-01-01T00:00:00Z&limit=5&cursor={cursor}"
    query += "&min_seq=1&wait=9"
    safe = (string.ascii_letters + string.digits + "=&%-_.:+").encode()

    async def ask(path: str) -> httpx.Response:
        asked = bytes(byte if byte in safe else ord("%") for byte in spoilt(rng, query.encode())).decode()
        return await workspace.http.get(f"{workspace.query_url}{path}?{asked}", headers=workspace.credentials)

    paths = ["/v1/runs", f"/v1/runs/{run['run_id']}", f"/v1/runs/{run['run_id']}/steps"]
    responses = await asyncio.gather(*(ask(path) for path in paths for _ in range(40)))

    for response in responses:
        if response.status_code == 503:
            expect.problem(response, 503, "projection_behind")
        elif response.status_code != 200:
            expect.problem(response, 400, "invalid_request", "invalid_status", "invalid_cursor", "missing_room_id")


@pytest.mark.parametrize("seed", range(2))
async def test_spoilt_cursors_make_no_server_error(workspace: Workspace, room: str, seed: int) -> None:
    rng = random.Random(seed)
    for _ in range(2):
        await workspace.create(room)
    safe = (string.ascii_letters + string.digits + "=&%-_.:+").encode()
    held = bytes(range(0x20, 0x7F)) + bytes(range(0x80, 0x100))

    async def follow() -> int:
        asked = bytes(byte if byte in safe else ord("%") for byte in spoilt(rng, b"from_seq=1")).decode()
        last = bytes(byte for byte in spoilt(rng, b"1") if byte in held).strip()
        headers = {name.encode(): value.encode() for name, value in workspace.credentials.items()}
        if rng.random() < 0.7:
            headers[b"last-event-id"] = last
        path = f"/v1/streams/rooms/{room}" + (f"?{asked}" if rng.random() < 0.7 else "")
        async with workspace.http.stream("GET", f"{workspace.query_url}{path}", headers=headers) as response:
            if response.status_code == 200:
                # To the end of history, or of a reset.
                async for line in response.aiter_lines():
                    if line == "event: caught-up":
                        break
                else:
                    raise AssertionError("the stream ended before it had caught up")
            else:
                await response.aread()
                expect.problem(response, 400, "invalid_request", "invalid_cursor")
        return response.status_code

    statuses = await asyncio.gather(*(follow() for _ in range(60)))

    assert set(statuses) == {200, 400}


def any_text(rng: random.Random) -> str:
    """Return text of characters from everywhere but NUL and the surrogates."""
    ranges = [(1, 32), (32, 127), (127, 160), (0x2020, 0x2030), (0xFFF0, 0x10000), (0x1F600, 0x1F610)]
    return "".join(chr(rng.randrange(*rng.choice(ranges))) for _ in range(rng.randint(0, 8)))


def any_value(rng: random.Random, depth: int = 0) -> Any:
    """Return a JSON value; its numbers are such as a double holds exactly."""
    kind = rng.randrange(8 if depth < 5 else 6)
    if kind == 6:
        return [any_value(rng, depth + 1) for _ in range(rng.randint(0, 4))]
    if kind == 7:
        return {any_text(rng): any_value(rng, depth + 1) for _ in range(rng.randint(0, 4))}
    fraction = rng.uniform(-1, 1) * 10.0 ** rng.randint(-300, 300)
    return [None, True, any_text(rng), rng.randint(-9, 9), rng.randint(-(2**53), 2**53), fraction][kind]


@pytest.mark.parametrize("seed", range(3))
async def test_any_value_is_read_and_streamed_as_it_was_given(workspace: Workspace, room: str, seed: int) -> None:
    rng = random.Random(seed)
    given = [{any_text(rng): any_value(rng) for _ in range(4)} for _ in range(40)]
    runs = await asyncio.gather(*(workspace.create(room, input=value, title=any_text(rng)) for value in given))
    last = max(run["stream_seq"] for run in runs)

    events = {event.run_id: event for event in await workspace.feed(room, last)}
    rows = {row["run_id"]: row for row in (await workspace.runs(room_id=room, min_seq=last, wait=30_000))["runs"]}

    for run, value in zip(runs, given, strict=True):
        assert events[run["run_id"]].envelope["data"]["input"] == value
        assert rows[run["run_id"]]["input"] == value
