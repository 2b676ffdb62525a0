"""The routes both services have, as their applications know them, and what each requires."""

from __future__ import annotations

import warnings
from typing import Any, NamedTuple, cast

from litestar import Litestar
from litestar.exceptions import LitestarDeprecationWarning
from litestar.routes import HTTPRoute

import services.command.wiring as command
import services.query.wiring as query
from services.command.settings import read_settings
from shared.http.auth.access import TokenAccess
from shared.http.auth.keys import SecretKey
from shared.http.auth.verifier import Policy
from shared.http.cors import Cors


class Route(NamedTuple):
    service: str
    method: str
    path: str


class Rule(NamedTuple):
    """What a route requires. ``scope`` None is any token. What it answers a token that is limited to another room, and
    one of another workspace; ``body`` is what a good request sends."""

    good: int
    scope: str | None = None
    is_open: bool = False
    takes_cookie: bool = False
    other_room: tuple[int, str | None] = (200, None)
    other_workspace: tuple[int, str | None] = (200, None)
    body: dict[str, Any] | None = None


_NOT_FOUND = (404, "run_not_found")
_REFUSED = (403, "insufficient_scope")


def _on_run(path: str, good: int, body: dict[str, Any] | None = None) -> dict[Route, Rule]:
    rule = Rule(good, "runs:write", other_room=_NOT_FOUND, other_workspace=_NOT_FOUND, body=body)
    return {Route("command", "POST", f"/v1/runs/{{run_id:str}}/{path}"): rule}


def _read(path: str, **rule: Any) -> dict[Route, Rule]:
    return {Route("query", "GET", path): Rule(200, "runs:read", takes_cookie=True, **rule)}


RULES: dict[Route, Rule] = {
    Route("command", "POST", "/v1/runs"): Rule(
        201, "runs:write", other_room=_REFUSED, other_workspace=(201, None), body={"room_id": "ROOM"}
    ),
    **_on_run("start", 200),
    **_on_run("complete", 200),
    **_on_run("fail", 200),
    **_on_run("steps", 201, {"kind": "tool"}),
    **_read("/v1/runs"),
    **_read("/v1/runs/{run_id:str}", other_room=_NOT_FOUND, other_workspace=_NOT_FOUND),
    **_read("/v1/runs/{run_id:str}/steps", other_room=_NOT_FOUND, other_workspace=_NOT_FOUND),
    **_read("/v1/streams/rooms/{room_id:str}", other_room=_REFUSED),
    Route("query", "POST", "/v1/session"): Rule(204, other_room=(204, None), other_workspace=(204, None)),
    Route("query", "DELETE", "/v1/session"): Rule(204, is_open=True),
    **{
        Route(service, "GET", path): Rule(200, is_open=True)
        for service in ("command", "query")
        for path in ("/healthz", "/readyz", "/metrics", "/schema", "/schema/openapi.json")
    },
    # Where the framework has pages to look at the description, there are none.
    **{Route(service, "GET", "/schema/{path:str}"): Rule(404, is_open=True) for service in ("command", "query")},
}


def routes() -> set[Route]:
    """Every route of both applications, with authentication on."""
    access = TokenAccess(SecretKey(b"x" * 32), Policy(None, None, 0))
    with warnings.catch_warnings():
        # How parameters of a path are declared; nothing to do with who may ask.
        warnings.simplefilter("ignore", LitestarDeprecationWarning)
        apps = _apps(access)
    return {route for service, app in apps.items() for route in _of(service, app)}


def _apps(access: TokenAccess) -> dict[str, Litestar]:
    settings = read_settings({"EVENT_STORE_DSN": "postgresql://h", "NATS_URL": "nats://h"})
    nothing = cast("Any", None)
    reads = type("Reads", (), {"check": None})
    return {
        "command": command._app(settings, nothing, access, nothing, nothing, nothing),  # pyright: ignore
        "query": query._app(cast("Any", reads), nothing, nothing, nothing, nothing, access, Cors(())),  # pyright: ignore
    }


def _of(service: str, app: Litestar) -> set[Route]:
    return {
        Route(service, method, route.path)
        for route in app.routes
        if isinstance(route, HTTPRoute)
        for method in route.methods
        if method != "OPTIONS"
    }
