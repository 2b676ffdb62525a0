"""Both services say whether they live, whether they can work, what they measure and what they offer."""

from __future__ import annotations

import re
from typing import Any

import pytest

from .client import Workspace

COMMANDS = {
    ("/v1/runs", "post"), ("/v1/runs/{}/start", "post"), ("/v1/runs/{}/complete", "post"),
    ("/v1/runs/{}/fail", "post"), ("/v1/runs/{}/steps", "post"),
}  # fmt: skip
READS = {("/v1/runs", "get"), ("/v1/runs/{}", "get"), ("/v1/runs/{}/steps", "get"), ("/v1/streams/rooms/{}", "get")}


@pytest.fixture(params=["command", "query"])
def base_url(request: pytest.FixtureRequest, workspace: Workspace) -> str:
    return workspace.command_url if request.param == "command" else workspace.query_url


async def test_the_process_is_up(workspace: Workspace, base_url: str) -> None:
    assert (await workspace.http.get(f"{base_url}/healthz")).status_code == 200


async def test_each_dependency_answers(workspace: Workspace, base_url: str) -> None:
    response = await workspace.http.get(f"{base_url}/readyz")

    assert response.status_code == 200, response.text
    assert response.headers["content-type"].startswith("application/json")
    assert isinstance(response.json(), dict)
    assert len(response.json()) >= 1


async def test_metrics_are_in_the_text_format(workspace: Workspace, base_url: str) -> None:
    response = await workspace.http.get(f"{base_url}/metrics")

    assert response.status_code == 200
    assert response.headers["content-type"].startswith("text/plain")
    assert re.search(r"^# TYPE \w+ (counter|gauge|histogram|summary|info|unknown)$", response.text, re.MULTILINE)


async def described(workspace: Workspace, base_url: str) -> dict[str, Any]:
    response = await workspace.http.get(f"{base_url}/schema/openapi.json")
    assert response.status_code == 200
    return response.json()


async def test_every_answer_names_its_request(workspace: Workspace, base_url: str) -> None:
    given = {"x-request-id": "mine-1"}
    for path in ("/healthz", "/v1/runs/run_none", "/nowhere"):
        answer = await workspace.http.get(f"{base_url}{path}", headers=given)
        assert answer.headers.get_list("x-request-id") == ["mine-1"]
    made = {(await workspace.http.get(f"{base_url}/healthz")).headers["x-request-id"] for _ in range(3)}
    assert len(made) == 3
    malformed = await workspace.http.get(f"{base_url}/healthz", headers={"x-request-id": "two words"})
    assert malformed.headers["x-request-id"] not in ("two words", "")


def operations(document: dict[str, Any]) -> set[tuple[str, str]]:
    return {
        (re.sub(r"\{[^}]*\}", "{}", path), method) for path, item in document["paths"].items() for method in item
    }  # fmt: skip


async def test_the_command_service_describes_its_commands(workspace: Workspace) -> None:
    document = await described(workspace, workspace.command_url)

    assert re.fullmatch(r"3\.1\.\d+", document["openapi"])
    assert operations(document) >= COMMANDS


async def test_the_query_service_describes_its_reads(workspace: Workspace) -> None:
    document = await described(workspace, workspace.query_url)

    assert re.fullmatch(r"3\.1\.\d+", document["openapi"])
    assert operations(document) >= READS
