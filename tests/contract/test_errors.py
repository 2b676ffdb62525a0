"""Every refusal is a problem document with a stable code, and a refused command changes nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import pytest

from . import expect
from .client import Workspace

MIB = 1024 * 1024


@pytest.mark.parametrize("verb", ["start", "complete", "fail", "steps"])
async def test_a_command_to_a_run_nobody_created(workspace: Workspace, verb: str) -> None:
    body = {"kind": "k"} if verb == "steps" else {}

    response = await workspace.post(f"/v1/runs/{expect.nobodys('run')}/{verb}", body)

    expect.problem(response, 404, "run_not_found")


async def test_a_read_of_a_run_nobody_created(workspace: Workspace) -> None:
    run_id = expect.nobodys("run")

    expect.problem(await workspace.get(f"/v1/runs/{run_id}"), 404, "run_not_found")
    expect.problem(await workspace.get(f"/v1/runs/{run_id}/steps"), 404, "run_not_found")


def no_such_run(response: httpx.Response) -> None:
    """The id is no run's: not found, or refused for its form."""
    if response.status_code == 400:
        expect.problem(response, 400, "invalid_request")
    else:
        expect.problem(response, 404, "run_not_found")


@pytest.mark.parametrize(
    "run_id",
    ["nope", "run_", "run_short", "run_" + "z" * 26, "run_" + "0" * 27, "RUN_1", "%00", "%FF", "run_%00", "x" * 3000],
)
async def test_an_id_no_run_can_have(workspace: Workspace, run_id: str) -> None:
    for verb, body in (("start", {}), ("complete", {}), ("fail", {}), ("steps", {"kind": "k"})):
        response = await workspace.post(f"/v1/runs/{run_id}/{verb}", body)
        no_such_run(response)
    for path in (f"/v1/runs/{run_id}", f"/v1/runs/{run_id}/steps"):
        response = await workspace.get(path)
        no_such_run(response)


async def test_a_step_id_is_no_run_id(workspace: Workspace, run_id: str) -> None:
    step_id = expect.nobodys("step")

    response = await workspace.post(f"/v1/runs/{step_id}/start")

    no_such_run(response)


@pytest.mark.parametrize("path", ["/v1/nothing", "/v1/runs/x/explode", "/v2/runs", "/v1/streams/rooms"])
async def test_a_path_that_is_not_there(workspace: Workspace, path: str) -> None:
    expect.problem(await workspace.get(path), 404, "not_found")
    expect.problem(await workspace.post(path, {}), 404, "not_found")


# 405, 406, 413, 415


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH"])
async def test_a_method_commands_do_not_have(workspace: Workspace, run_id: str, method: str) -> None:
    for path in ("/v1/runs", f"/v1/runs/{run_id}/start", f"/v1/runs/{run_id}/steps"):
        response = await workspace.http.request(method, f"{workspace.command_url}{path}")
        expect.problem(response, 405, "method_not_allowed")
        assert "POST" in response.headers["allow"]


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
async def test_a_method_reads_do_not_have(workspace: Workspace, room: str, method: str) -> None:
    run_id = expect.nobodys("run")
    for path in ("/v1/runs", f"/v1/runs/{run_id}", f"/v1/runs/{run_id}/steps", f"/v1/streams/rooms/{room}"):
        response = await workspace.http.request(method, f"{workspace.query_url}{path}")
        expect.problem(response, 405, "method_not_allowed")
        assert "GET" in response.headers["allow"]


async def test_an_answer_in_no_form_the_client_takes(workspace: Workspace, room: str, run_id: str) -> None:
    picture = {"accept": "image/png"}
    answers = [
        await workspace.post("/v1/runs", {"room_id": room}, headers=picture),
        await workspace.post(f"/v1/runs/{run_id}/steps", {"kind": "k"}, headers=picture),
        await workspace.get("/v1/runs", headers=picture),
        await workspace.get(f"/v1/runs/{run_id}", headers=picture),
        await workspace.no_stream(room, headers=picture),
    ]

    for response in answers:
        expect.problem(response, 406, "not_acceptable")


@pytest.mark.parametrize("accept", ["*/*", "application/*", "application/json", "text/html, application/json;q=0.5"])
async def test_an_answer_in_a_form_the_client_takes(workspace: Workspace, room: str, accept: str) -> None:
    headers = {"accept": accept}

    expect.accepted(await workspace.post("/v1/runs", {"room_id": room}, headers=headers), 201)
    expect.page(await workspace.get("/v1/runs", headers=headers), "runs")


@pytest.mark.parametrize(
    "content_type", ["text/plain", "application/x-www-form-urlencoded", "application/xml", "multipart/form-data"]
)
async def test_a_body_in_another_form(workspace: Workspace, room: str, run_id: str, content_type: str) -> None:
    headers = {"content-type": content_type}

    for path, content in (("/v1/runs", f'{{"room_id":"{room}"}}'), (f"/v1/runs/{run_id}/steps", '{"kind":"k"}')):
        response = await workspace.post(path, content=content.encode(), headers=headers)
        expect.problem(response, 415, "unsupported_media_type")


@pytest.mark.parametrize(
    "content_type", ["application/json; charset=utf-8", "APPLICATION/JSON", 'application/json;charset="UTF-8"']
)
async def test_a_json_body_by_another_name(workspace: Workspace, room: str, content_type: str) -> None:
    content = f'{{"room_id":"{room}"}}'.encode()

    expect.accepted(await workspace.post("/v1/runs", content=content, headers={"content-type": content_type}), 201)


async def test_a_body_beyond_the_limit(workspace: Workspace, room: str, run_id: str) -> None:
    content = b'{"room_id":"%s","goal":"%s"}' % (room.encode(), b"g" * MIB)

    async def in_pieces() -> AsyncIterator[bytes]:
        for start in range(0, len(content), 64 * 1024):
            yield content[start : start + 64 * 1024]

    expect.problem(await workspace.post("/v1/runs", content=content), 413, "body_too_large")
    expect.problem(await workspace.post("/v1/runs", content=in_pieces()), 413, "body_too_large")
    expect.problem(await workspace.post(f"/v1/runs/{run_id}/start", content=content), 413, "body_too_large")
