"""What stands between a request and its handler, seen from a handler."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from litestar import Litestar, Request, get, post
from litestar.testing import TestClient

from shared.http.auth.access import TokenAccess
from shared.http.auth.keys import SecretKey
from shared.http.auth.verifier import Policy
from shared.http.problems import EXCEPTION_HANDLERS
from tests.support.tokens import claims, hs256

SECRET = b"s" * 32
COOKIE = {"cookie": f"__Host-runroom={hs256(SECRET, claims())}"}


@pytest.fixture(scope="module")
def client() -> Iterator[TestClient[Litestar]]:
    access = TokenAccess(SecretKey(SECRET), Policy(None, None, 0.0))

    @get("/read")
    async def read(request: Request[Any, Any, Any]) -> str:
        return access.identify(request).workspace_id

    @post("/write", status_code=200)
    async def write(request: Request[Any, Any, Any]) -> str:
        return access.identify(request).workspace_id

    @get("/forgotten")
    async def forgotten(request: Request[Any, Any, Any]) -> str:
        return access.identify(request).workspace_id

    protected = access.protect([read, write], "runs:read", takes_cookie=True)
    app = Litestar([*protected, forgotten], exception_handlers=EXCEPTION_HANDLERS, openapi_config=None)
    with TestClient(app) as client:
        yield client


def test_a_cookie_is_good_for_no_post_wherever_it_is_taken(client: TestClient[Litestar]) -> None:
    assert client.get("/read", headers=COOKIE).text == "ws_test"
    refused = client.post("/write", headers=COOKIE)
    assert (refused.status_code, refused.json()["error"]) == (401, "missing_token")


def test_a_handler_that_nothing_protects_lets_nobody_in(client: TestClient[Litestar]) -> None:
    for headers in ({}, COOKIE, {"x-workspace-id": "ws_test"}):
        assert client.get("/forgotten", headers=headers).status_code == 500


def test_options_are_asked_without_a_token(client: TestClient[Litestar]) -> None:
    answer = client.options("/read")
    assert (answer.status_code, answer.text) == (204, "")
