"""Pages are bounded in bytes as well as in rows, and so are the answers that clients do not take."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import uuid
from pathlib import Path
from typing import Any

import pytest

from services.query.statement import OptionalStatement
from tests.support.servers import REPOSITORY

from .service import QueryService, running
from .world import NOON, Projections, Stream, fresh

MIB = 1024 * 1024
MOST = 4 * MIB
"""As limits.md has it."""
LARGEST = 2 * MIB + 64 * 1024
"""A row, with what has been squeezed into a body of 1 MiB twice."""


def text(kind: str) -> str:
    """A MiB that can be compressed, or one that cannot."""
    return "x" * MIB if kind == "compressible" else "".join(uuid.uuid4().hex for _ in range(MIB // 32))


@pytest.fixture(scope="module")
async def large(projections: Projections) -> dict[str, list[str]]:
    """Runs by room, oldest first: those of each kind have a MiB in one member, and there are many small ones."""
    rooms: dict[str, list[str]] = {}
    for kind in ("compressible", "incompressible"):
        body = text(kind)
        for number in range(12):
            member = ("title", "input", "output", "summary")[number % 4]
            value = json.dumps({"a": body}) if member in ("input", "output") else body
            run_id = fresh("run")
            rooms.setdefault(kind, []).append(run_id)
            run: dict[str, Any] = {"run_id": run_id, "room_id": kind, "tags": ["big", kind], "minute": number}
            await projections.apply_run({**run, member: value, "stream_seq": number + 1})
    for number in range(150):
        run_id = fresh("run")
        rooms.setdefault("small", []).append(run_id)
        await projections.apply_run({"run_id": run_id, "room_id": "small", "minute": number, "stream_seq": number + 1})
    return rooms


async def pages(query: QueryService, path: str, name: str, params: dict[str, Any]) -> list[tuple[list[str], int]]:
    """The ids on each page, oldest page last, and how long the answer was."""
    found: list[tuple[list[str], int]] = []
    cursor: str | None = None
    while True:
        answer = await query.get(path, {**params, **({"cursor": cursor} if cursor else {})})
        assert answer.status_code == 200, answer.text
        body = answer.json()
        assert body[name], "a page has one row at least"
        found.append(([row["run_id" if name == "runs" else "step_id"] for row in body[name]], len(answer.content)))
        cursor = body["next_cursor"]
        if cursor is None:
            return found


@pytest.mark.parametrize("kind", ["compressible", "incompressible"])
@pytest.mark.parametrize("filters", [{}, {"tag": "big"}, {"status": ["queued", "running"]}])
async def test_large_runs_come_in_short_pages(
    query: QueryService, large: dict[str, list[str]], kind: str, filters: dict[str, Any]
) -> None:
    found = await pages(query, "/v1/runs", "runs", {"room_id": kind, "limit": 200, **filters})
    assert [run for page, _ in found for run in page] == large[kind][::-1]
    assert max(size for _, size in found) < MOST + LARGEST
    assert len(found) == 3
    small = await pages(query, "/v1/runs", "runs", {"room_id": kind, "limit": 1, **filters})
    assert [run for page, _ in small for run in page] == large[kind][::-1]


async def test_small_runs_come_in_full_pages(query: QueryService, large: dict[str, list[str]]) -> None:
    found = await pages(query, "/v1/runs", "runs", {"room_id": "small", "limit": 75})
    assert [len(page) for page, _ in found] == [75, 75]
    assert [run for page, _ in found for run in page] == large["small"][::-1]
    (whole,) = await pages(query, "/v1/runs", "runs", {"room_id": "small", "limit": 150})
    assert len(whole[0]) == 150


@pytest.mark.parametrize("kind", ["compressible", "incompressible"])
async def test_large_steps_come_in_short_pages(query: QueryService, projections: Projections, kind: str) -> None:
    run_id = fresh("run")
    await projections.apply_run({"run_id": run_id, "room_id": fresh("room"), "stream_seq": 20})
    body = text(kind)
    steps = [fresh("step") for _ in range(12)]
    for number, step_id in enumerate(steps):
        title, given = (body, "{}") if number % 2 else (None, json.dumps({"a": body}))
        await projections.connection.execute(
            """
            insert into proj_steps values
            ($1, $2, 'ws_dev', 'room', null, 'tool', 'queued', $3, $4, '{}', '{}', $5, $5, $6, $7)
            """,
            step_id,
            run_id,
            title,
            given,
            NOON,
            uuid.uuid4(),
            number + 2,
        )
    found = await pages(query, f"/v1/runs/{run_id}/steps", "steps", {})
    assert [step for page, _ in found for step in page] == steps
    assert max(size for _, size in found) < MOST + LARGEST
    assert len(found) == 3
    assert [len(page) for page, _ in await pages(query, f"/v1/runs/{run_id}/steps", "steps", {"limit": 1})] == [1] * 12


async def test_pages_of_tags_are_short_too(query: QueryService, projections: Projections, room: str) -> None:
    tags = [f"{number:06}" + "\N{GRINNING FACE}" * 250 for number in range(100)]
    runs = [fresh("run") for _ in range(60)]
    for number, run_id in enumerate(runs):
        await projections.apply_run({"run_id": run_id, "room_id": room, "minute": number, "tags": tags})
    found = await pages(query, "/v1/runs", "runs", {"room_id": room, "limit": 200})
    assert [run for page, _ in found for run in page] == runs[::-1]
    assert len(found) == 2
    assert max(size for _, size in found) < MOST + 200 * 1024


async def test_what_a_page_leaves_out_is_not_read(projections: Projections, room: str) -> None:
    """However much of it there is: as many blocks are looked at, but for those that the rows themselves are in."""
    await large_runs(projections, room, 60, MIB)
    text = (REPOSITORY / "services" / "query" / "sql" / "list_runs.sql").read_text()

    async def blocks(limit: int) -> int:
        given = {"workspace_id": "ws_dev", "room_id": room, "limit": limit, "bytes": MOST}
        statement, values = OptionalStatement(text).bind(given)
        (plan,) = json.loads(
            await projections.connection.fetchval(f"explain (analyze, buffers, format json) {statement}", *values)
        )
        return plan["Plan"]["Shared Hit Blocks"] + plan["Plan"]["Shared Read Blocks"]

    await blocks(60)
    assert await blocks(60) - await blocks(10) < 20


async def test_look_ups_of_large_runs_take_turns(
    variables: dict[str, str], projections: Projections, stream: Stream, room: str
) -> None:
    runs = await large_runs(projections, room, 40, 4 * MIB)
    async with running(variables | {"BACKLOG_MEGABYTES": "8"}) as query:
        assert (await query.get(f"/v1/runs/{fresh('run')}")).status_code == 404
        before = memory_kib(query.pid, "VmHWM")
        with contextlib.ExitStack() as opened:
            for run_id in runs:
                client = opened.enter_context(socket.socket())
                client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                client.connect(("127.0.0.1", query.port))
                client.sendall(f"GET /v1/runs/{run_id} HTTP/1.1\r\nHost: q\r\n\r\n".encode())
            async with asyncio.timeout(20):
                while await query.metric("runroom_http_backlog_bytes") < 8 * MIB:
                    await asyncio.sleep(0.05)
                while (answer := await query.get(f"/v1/runs/{runs[7]}", {"min_seq": 8})).status_code != 200:
                    assert answer.json()["error"] == "overloaded"
                    await asyncio.sleep(0.05)
            run = answer.json()["run"]
            assert (run["run_id"], run["stream_seq"], len(run["input"]["a"])) == (runs[7], 8, 4 * MIB)
        # Of 160 MB, each of which would be there two or three times.
        assert memory_kib(query.pid, "VmHWM") - before < 80_000


async def large_runs(projections: Projections, room: str, count: int, size: int) -> list[str]:
    """Runs of a room, oldest first, each with so many bytes that can be compressed; made there, not sent there."""
    runs = [fresh("run") for _ in range(count)]
    for number, run_id in enumerate(runs):
        await projections.apply_run({"run_id": run_id, "room_id": room, "minute": number, "stream_seq": number + 1})
    await projections.connection.execute(
        """update proj_runs_v1 set input = ('{"a":"' || repeat('x', $2) || '"}')::json where room_id = $1""", room, size
    )
    await projections.connection.execute("vacuum proj_runs_v1")
    return runs


def memory_kib(pid: int, name: str) -> int:
    return int(Path(f"/proc/{pid}/status").read_text().split(f"{name}:")[1].split()[0])


@pytest.mark.parametrize("field", [b"", b"Expect: 100-continue\r\n"])
async def test_who_takes_nothing_keeps_others_out_for_a_moment_only(
    variables: dict[str, str], stream: Stream, large: dict[str, list[str]], field: bytes
) -> None:
    """``stream`` is there for the service to be ready."""
    async with running(variables | {"BACKLOG_MEGABYTES": "8"}) as query:
        clients: list[socket.socket] = []
        with contextlib.ExitStack() as opened:
            for _ in range(6):
                client = opened.enter_context(socket.socket())
                client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                client.connect(("127.0.0.1", query.port))
                client.sendall(b"GET /v1/runs?room_id=compressible HTTP/1.1\r\nHost: q\r\n" + field + b"\r\n")
                clients.append(client)
            async with asyncio.timeout(20):
                while await query.metric("runroom_http_backlog_bytes") < 8 * MIB:
                    await asyncio.sleep(0.05)
                while (answer := await query.get("/v1/runs", {"room_id": "small"})).status_code != 200:
                    assert (answer.status_code, answer.json()["error"]) == (503, "overloaded")
                    assert answer.headers["retry-after"] == "1"
                    await asyncio.sleep(0.05)
            assert await query.metric("runroom_http_backlog_drops_total") >= 1
            assert await query.metric("runroom_http_backlog_bytes") < 8 * MIB
        await query.until("runroom_http_backlog_bytes", 0)


async def test_who_takes_the_answer_slowly_gets_all_of_it(query: QueryService, large: dict[str, list[str]]) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", query.port, limit=MIB)
    writer.write(b"GET /v1/runs?room_id=compressible HTTP/1.1\r\nHost: q\r\nConnection: close\r\n\r\n")
    await asyncio.sleep(1)
    async with asyncio.timeout(20):
        head, _, body = (await reader.read(-1)).partition(b"\r\n\r\n")
    writer.close()
    assert f"content-length: {len(body)}".encode() in head
    assert json.loads(body)["runs"][0]["run_id"] == large["compressible"][-1]
    await query.until("runroom_http_backlog_bytes", 0)
