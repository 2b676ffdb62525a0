"""Who is calling where authentication is off."""

from __future__ import annotations

from typing import Any

import pytest
from litestar import Litestar, Request, get, post
from litestar.testing import TestClient

from shared.http.identity import identify_by_headers
from shared.http.problems import EXCEPTION_HANDLERS

OWN = "http://app.test:3000"


def client() -> TestClient[Litestar]:
    identify = identify_by_headers([OWN])

    @post("/", status_code=200)
    async def write(request: Request[Any, Any, Any]) -> str:
        return identify(request).workspace_id

    @get("/")
    async def read(request: Request[Any, Any, Any]) -> str:
        return identify(request).workspace_id

    return TestClient(Litestar([write, read], exception_handlers=EXCEPTION_HANDLERS, openapi_config=None))


@pytest.mark.parametrize("origin", [None, OWN, "http://h:8001", "https://h:8001"])
def test_commands_are_taken_of_programs_and_of_own_pages(origin: str | None) -> None:
    headers = {"host": "h:8001"} | ({} if origin is None else {"origin": origin})
    assert client().post("/", headers=headers).text == "ws_dev"


@pytest.mark.parametrize("origin", ["https://evil.test", "null", "", "http://h", "http://h:8001.evil.test", "h:8001"])
def test_commands_of_other_pages_are_not_taken(origin: str) -> None:
    """A browser sends a POST without a type to whatever listens on its machine, and asks nobody."""
    headers = {"host": "h:8001", "origin": origin}
    refused = client().post("/", headers=headers)
    assert (refused.status_code, refused.json()["error"]) == (400, "invalid_request")
    assert refused.json()["detail"].startswith("Origin: ")
    assert client().get("/", headers=headers).status_code == 200  # which the page is not let read


@pytest.mark.parametrize("name", ["x-workspace-id", "x-actor-type", "x-actor-id"])
def test_what_is_sent_empty_is_not_what_is_left_out(name: str) -> None:
    refused = client().get("/", headers={name: ""})
    assert (refused.status_code, refused.json()["error"]) == (400, "invalid_request")
    assert refused.json()["detail"].startswith(name)
