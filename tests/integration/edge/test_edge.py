"""The edge in front of a whole deployment: one origin, nothing held back, nothing repeated, nothing told."""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from deploy.local import LocalStack
from shared.http.problems import phrase
from tests.contract import expect
from tests.contract.client import Workspace, fresh
from tests.contract.sse import DEADLINE, Control, RoomStream, StreamEndedError, open_stream
from tests.support.edge import Edge

from .services import query_of, ready_again

LIMIT = 1024 * 1024


async def ended(viewer: RoomStream) -> list[int]:
    """Reads to the end of the stream, however it comes; the positions seen on the way."""
    seen: list[int] = []
    try:
        while True:
            seen.append((await viewer.event()).seq)
    except (StreamEndedError, httpx.TransportError):
        return seen


def problem(answer: httpx.Response, status: int, error: str) -> None:
    """The answer is a problem as the services make it."""
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    body = answer.json()
    assert body.keys() == expect.PROBLEM
    assert (body["type"], body["status"], body["title"]) == (f"urn:runroom:problem:{error}", status, phrase(status))
    assert (body["error"], body["instance"]) == (error, answer.request.url.raw_path.decode().partition("?")[0])


async def logged(edge: Edge, answer: httpx.Response) -> dict[str, Any]:
    """The line of this answer's request, which may be written after the answer is here."""
    async with asyncio.timeout(DEADLINE):
        while True:
            for line in edge.access_log():
                if line["request_id"] == answer.headers["x-request-id"]:
                    return line
            await asyncio.sleep(0.02)


async def test_commands_and_reads_have_one_origin(workspace: Workspace, http: httpx.AsyncClient, room: str) -> None:
    run = await workspace.running(room, title="Through the edge")
    step = await workspace.step(run["run_id"])
    answer = await http.get(f"/v1/runs/{run['run_id']}", params={"min_seq": step["stream_seq"]})
    assert answer.http_version == "HTTP/2"
    assert answer.json()["run"]["title"] == "Through the edge"
    assert answer.headers["strict-transport-security"] == "max-age=31536000"
    assert "/" not in answer.headers["server"]
    listed = await http.get("/v1/runs", params={"room_id": room, "min_seq": step["stream_seq"]})
    assert [one["run_id"] for one in listed.json()["runs"]] == [run["run_id"]]


async def test_events_arrive_as_they_happen(workspace: Workspace, room: str) -> None:
    """Each one is here before the next is sent, so nothing on the way waits for more."""
    run = await workspace.running(room)
    async with workspace.stream(room) as viewer:
        assert viewer.response.http_version == "HTTP/2"
        assert viewer.response.headers["x-accel-buffering"] == "no"
        history, _ = await viewer.caught_up()
        # What was committed just before may come as history, or be published after it.
        seen = [event.seq for event in history]
        while len(seen) < 2:
            seen.append((await viewer.event()).seq)
        assert seen == [1, 2]
        for seq in range(3, 13):
            sent = await workspace.step(run["run_id"])
            assert (await viewer.event()).seq == sent["stream_seq"] == seq


async def step_amid_a_reload(workspace: Workspace, run_id: str) -> None:
    """A worker may go just when it is sent something, which httpx does not send again by itself."""
    key = fresh("key")
    async with asyncio.timeout(DEADLINE):
        while True:
            with contextlib.suppress(httpx.RemoteProtocolError):
                answer = await workspace.post(f"/v1/runs/{run_id}/steps", {"kind": "tool"}, key=key)
                assert answer.status_code == 201
                return


@pytest.mark.parametrize("version", ["HTTP/1.1", "HTTP/2"])
async def test_a_stream_resumes_after_a_reload(
    version: str, http: httpx.AsyncClient, http1: httpx.AsyncClient, workspace: Workspace, edge: Edge, room: str
) -> None:
    """The workers from before end what they have and go; the new ones take everybody new. Nothing is seen twice."""
    run = await workspace.running(room)
    url, before = f"/v1/streams/rooms/{room}", edge.workers
    async with open_stream(http if version == "HTTP/2" else http1, url, {}, {}) as viewer:
        await viewer.until(2)
        assert viewer.response.http_version == version
        edge.ask_to_reload()
        async with asyncio.timeout(DEADLINE):
            while not edge.workers - before:
                await asyncio.sleep(0.02)
        await step_amid_a_reload(workspace, run["run_id"])
        # Over HTTP/2 it is told at once that the worker goes, and httpx leaves then.
        seen = await ended(viewer)
    await step_amid_a_reload(workspace, run["run_id"])
    async with asyncio.timeout(DEADLINE):
        while edge.workers & before:
            await asyncio.sleep(0.02)
    async with workspace.stream(room, last_event_id=[2, *seen][-1]) as viewer:
        assert seen + [event.seq for event in await viewer.until(4)] == [3, 4]


async def test_a_stream_resumes_after_the_service_is_back(
    workspace: Workspace, http: httpx.AsyncClient, stack: LocalStack, room: str
) -> None:
    run = await workspace.running(room)
    async with workspace.stream(room) as viewer:
        await viewer.caught_up()
        query_of(stack).kill()
        assert await ended(viewer) == []
    try:
        sent = await workspace.step(run["run_id"])
        read = await http.get(f"/v1/runs/{run['run_id']}")
        problem(read, 502, "bad_gateway")
        assert read.headers["retry-after"] == "2"
        # A browser would never come again after any other status.
        async with workspace.stream(room, last_event_id="2") as viewer:
            assert viewer.response.status_code == 200
            assert viewer.response.headers["content-type"] == "text/event-stream; charset=utf-8"
            assert await viewer.control() == Control("busy", {"limit": "service"})
            assert viewer.lines[0] == "retry: 5000"
            with pytest.raises(StreamEndedError):
                await viewer.line()
    finally:
        await ready_again(query_of(stack))
    async with workspace.stream(room, last_event_id="2") as viewer:
        assert (await viewer.event()).seq == sent["stream_seq"] == 3


async def test_a_uri_that_is_too_long_for_the_edge_is_refused_as_one(http1: httpx.AsyncClient) -> None:
    answer = await http1.get(f"/v1/runs?cursor={'x' * 20_000}")
    assert answer.status_code == 414
    assert (answer.json()["error"], answer.json()["title"]) == ("uri_too_long", phrase(414))


async def test_bodies_up_to_the_limit_pass(
    workspace: Workspace, http1: httpx.AsyncClient, edge: Edge, room: str
) -> None:
    around = len(b'{"room_id": "", "title": ""}') + len(room)
    most = b'{"room_id": "%b", "title": "%b"}' % (room.encode(), b"x" * (LIMIT - around))
    assert len(most) == LIMIT
    expect.accepted(await workspace.post("/v1/runs", content=most), 201)
    as_json = {"content-type": "application/json"}
    expect.accepted(await http1.post("/v1/runs", content=most, headers=as_json), 201)
    refused = await http1.post("/v1/runs", content=most + b" ", headers=as_json)
    problem(refused, 413, "body_too_large")
    line = await logged(edge, refused)
    assert (line["method"], line["upstream"]) == ("POST", "")

    async def unannounced() -> AsyncIterator[bytes]:
        yield most
        yield b" "

    problem(await http1.post("/v1/runs", content=unannounced(), headers=as_json), 413, "body_too_large")


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/nowhere",
        "/metrics",
        "/readyz",
        "/schema/openapi.json",
        "/schema",
        "/.problem",
        "/v1",
        "/v1/streams",
        "/a%22b%0A?c=d",
    ],
)
async def test_nothing_else_is_reachable(http: httpx.AsyncClient, edge: Edge, path: str) -> None:
    answer = await http.get(path)
    problem(answer, 404, "not_found")
    assert not (await logged(edge, answer))["upstream"]


@pytest.mark.parametrize(
    "path", ["/v1/nowhere/../../metrics", "/v1/streams/../../metrics", "/v1/runs/..%2F..%2Fmetrics"]
)
async def test_no_detour_leads_to_the_metrics(edge: Edge, token: str, path: str) -> None:
    """Sent as written: clients would tidy up the path."""
    status, body = await raw(edge, f"GET {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n")
    assert status == 404
    assert b"runroom_" not in body


async def test_answers_of_its_own_are_problems_too(
    edge: Edge, http: httpx.AsyncClient, http1: httpx.AsyncClient
) -> None:
    traced = await http.request("TRACE", "/v1/runs")
    problem(traced, 405, "method_not_allowed")
    assert traced.json()["detail"] == "TRACE is not allowed on this path"
    problem(await http1.get("/v1/runs", headers={"x-large": "x" * 20_000}), 400, "invalid_request")
    async with httpx.AsyncClient(trust_env=False) as plain:
        problem(await plain.get(f"http://localhost:{edge.port}/v1/runs"), 400, "invalid_request")
    for path in ("/v1/runs/%00", "/v1/../../etc", "/v1/runs/%zz"):
        status, body = await raw(edge, f"GET {path} HTTP/1.1\r\nHost: localhost\r\n")
        assert (status, json.loads(body)["error"], json.loads(body)["instance"]) == (400, "invalid_request", "/")
    status, body = await raw(edge, "no request at all\r\n")
    assert (status, json.loads(body)["error"]) == (400, "invalid_request")
    status, body = await raw(edge, "POST /v1/runs HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: gzip\r\n")
    assert (status, json.loads(body)["error"]) == (400, "invalid_request")
    strange, body = await raw(edge, 'GET /a"b\\c HTTP/1.1\r\nHost: localhost\r\n')
    assert strange == 404
    assert b'"instance":"/"' in body


PAGE, OTHER_PAGE = "https://app.test", "https://[::1]:8443"


def granted(answer: httpx.Response) -> tuple[list[str], list[str], bool]:
    """The origins it names, what it says of credentials, and whether a cache has to heed the origin."""
    names = ("access-control-allow-origin", "access-control-allow-credentials")
    origins, credentials = (answer.headers.get_list(name) for name in names)
    return origins, credentials, answer.headers.get_list("vary").count("Origin") == 1


@pytest.mark.parametrize("origin", [PAGE, OTHER_PAGE])
async def test_pages_of_known_origins_read_whatever_is_answered(
    http: httpx.AsyncClient, http1: httpx.AsyncClient, stack: LocalStack, origin: str
) -> None:
    page = {"origin": origin}
    answers = [
        await http.get("/v1/runs", headers=page),
        await http.get("/v1/runs/run_0", headers=page),
        await http.get("/nowhere", headers=page),
        await http1.post("/v1/runs", headers=page, content=b" " * (LIMIT + 1)),
        await http1.get("/v1/runs", headers={**page, "x-large": "x" * 20_000}),
        await http1.post("/v1/streams/rooms/r", headers=page, content=b" " * (LIMIT + 1)),
    ]
    assert [answer.status_code for answer in answers] == [200, 404, 404, 413, 400, 413]
    query_of(stack).kill()
    try:
        answers += [await http.get(path, headers=page) for path in ("/v1/runs", "/v1/streams/rooms/r")]
    finally:
        await ready_again(query_of(stack))
    failed, busy = answers[-2:]
    assert (failed.status_code, busy.status_code) == (502, 200)
    for answer in answers:
        assert granted(answer) == ([origin], ["true"], True)
        assert answer is busy or answer.status_code == 200 or "problem+json" in answer.headers["content-type"]
    assert "Retry-After" in failed.headers["access-control-expose-headers"]


async def test_a_preflight_is_answered_as_the_services_do(http: httpx.AsyncClient, stack: LocalStack) -> None:
    """And by the edge itself, so that a page learns of the request itself that a service is away."""
    asked = {"origin": PAGE, "access-control-request-method": "POST", "access-control-request-headers": "authorization"}

    def told(answer: httpx.Response) -> dict[str, str]:
        assert answer.status_code == 204
        assert answer.headers.get_list("vary") == ["Origin"]
        return {name: value for name, value in answer.headers.items() if name.startswith("access-control-")}

    async with httpx.AsyncClient(trust_env=False) as past:
        theirs = told(await past.options(f"{query_of(stack).url}/v1/runs", headers=asked))
    exposed = {"access-control-expose-headers": "Retry-After, X-Request-Id"}
    query_of(stack).kill()
    try:
        for path in ("/v1/runs", "/v1/streams/rooms/r", "/v1/session", "/nowhere"):
            assert told(await http.options(path, headers=asked)) == theirs | exposed
    finally:
        await ready_again(query_of(stack))
    for strange in ({**asked, "origin": "https://evil.test"}, {"origin": PAGE}):
        answer = await http.options("/v1/runs", headers=strange)
        assert "access-control-allow-methods" not in answer.headers


@pytest.mark.parametrize(
    "origin",
    [
        *("https://evil.test", "https://app.test.evil.test", "https://app", "app.test", "https://appxtest", "null"),
        *("https://app.test,", "https://app.test|", "https://app.test, https://[::1]:8443", ",", " ", ".*", ""),
        *("|", ",|", "a|,a,", "|a,|a", "https://evil.test|,https://evil.test,", "https://app.test,|https://app.test"),
    ],
)
async def test_no_other_page_reads_anything(http: httpx.AsyncClient, origin: str) -> None:
    for path in ("/v1/runs", "/nowhere"):
        assert granted(await http.get(path, headers={"origin": origin})) == ([], [], True)


async def test_both_services_methods_are_allowed(http: httpx.AsyncClient) -> None:
    for path in ("/v1/runs", "/v1/runs/run_01/steps"):
        answer = await http.put(path)
        problem(answer, 405, "method_not_allowed")
        (allowed,) = answer.headers.get_list("allow")
        assert {"GET", "POST"} <= set(allowed.split(", "))
    for method, path, allowed in (("GET", "/v1/runs/run_01/start", "POST"), ("POST", "/v1/runs/run_01", "GET")):
        answer = await http.request(method, path)
        problem(answer, 405, "method_not_allowed")
        assert allowed in answer.headers["allow"].split(", ")


async def test_an_id_for_each_request(http: httpx.AsyncClient, edge: Edge) -> None:
    given = await http.get("/v1/runs", headers={"x-request-id": "mine-1"})
    assert given.headers.get_list("x-request-id") == ["mine-1"]
    assert (await logged(edge, given))["path"] == "/v1/runs"
    for unfit in ("", "two words", "x" * 129):
        answer = await http.get("/v1/runs", headers={"x-request-id": unfit})
        assert len(answer.headers["x-request-id"]) == 32
        assert (await logged(edge, answer))["path"] == "/v1/runs"


async def test_the_log_tells_no_secret(
    http: httpx.AsyncClient, http1: httpx.AsyncClient, edge: Edge, stack: LocalStack, token: str
) -> None:
    """Neither does the error log, which would quote whole requests."""

    async def ask() -> None:
        hidden = {"cookie": f"__Host-runroom={token}; other=hidden-crumb", "referer": "https://localhost/?hidden-page"}
        await http.get("/v1/runs", params={"tag": "hidden-tag"}, headers=hidden)
        await http.post("/v1/runs", params={"a": "hidden-tag"}, headers=hidden, content=b"hidden-body")
        await http1.post("/v1/runs", params={"a": "hidden-tag"}, headers=hidden, content=b"hidden-body" * LIMIT)
        await http.get("/hidden", params={"tag": "hidden-tag"}, headers=hidden)
        async with open_stream(http, "/v1/streams/rooms/r", {"from_seq": "hidden-seq"}, {}) as stream:
            await stream.response.aread()

    await ask()
    query_of(stack).kill()
    try:
        await ask()
    finally:
        await ready_again(query_of(stack))
    assert {line["status"] for line in edge.access_log()} >= {"200", "400", "404", "413", "502"}
    log = edge.log()
    assert token not in log
    assert "Bearer" not in log
    assert "hidden-" not in log
    assert "?" not in log


async def raw(edge: Edge, head: str) -> tuple[int, bytes]:
    """Sends this head over HTTP/1.1, closing afterwards; status and body of the answer."""
    context: ssl.SSLContext = edge.certificates.client()
    reader, writer = await asyncio.open_connection("localhost", edge.port, ssl=context, server_hostname="localhost")
    try:
        writer.write(f"{head}Connection: close\r\n\r\n".encode())
        async with asyncio.timeout(DEADLINE):
            answer = await reader.read()
    finally:
        writer.close()
    first, _, body = answer.partition(b"\r\n\r\n")
    return int(first.split(b" ")[1]), body
