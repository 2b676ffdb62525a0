"""Every route and every kind of caller, the almost right ones above all. A route without a rule fails."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import httpx
import pytest

from tests.contract import expect
from tests.contract.client import fresh
from tests.support.tokens import by_hand, claims, hs256, rsa_key, signed

from .deployment import AUDIENCE, ISSUER, Guarded, bearer, cookie
from .routes import RULES, Route, Rule, routes

STRANGER = rsa_key("rsa-1")
"""Another key under the same id."""
NOBODY = rsa_key("rsa-2")
ROOM, OTHER_ROOM = "room_a", "room_b"

Headers = dict[str, str] | list[tuple[str, str]]


def test_every_route_has_a_rule() -> None:
    assert routes() == RULES.keys()


class Caller(NamedTuple):
    """``headers`` are made for a workspace; ``verdict`` is what a route that is not open answers."""

    headers: Callable[[Guarded, str], Headers]
    verdict: Callable[[Rule], tuple[int, str | None]]


def _good(rule: Rule) -> tuple[int, str | None]:
    return rule.good, None


def _missing(_: Rule) -> tuple[int, str | None]:
    return 401, "missing_token"


def _invalid(_: Rule) -> tuple[int, str | None]:
    return 401, "invalid_token"


def _scoped(*scopes: str) -> Callable[[Rule], tuple[int, str | None]]:
    return lambda rule: _good(rule) if rule.scope in (None, *scopes) else (403, "insufficient_scope")


def _if_cookie(rule: Rule) -> tuple[int, str | None]:
    return _good(rule) if rule.takes_cookie else (401, "missing_token")


def _invalid_if_cookie(rule: Rule) -> tuple[int, str | None]:
    return (401, "invalid_token") if rule.takes_cookie else (401, "missing_token")


def _token(verdict: Callable[[Rule], tuple[int, str | None]], **changed: Any) -> Caller:
    """A token signed as it should be, with some claims changed."""
    return Caller(lambda at, ws: bearer(at.token(**{"workspace": ws, **changed})), verdict)


def _signed(verdict: Callable[[Rule], tuple[int, str | None]], **changed: Any) -> Caller:
    """The same, where None is null, and not left out."""

    def headers(at: Guarded, ws: str) -> Headers:
        return bearer(at.noted(signed(at.rsa, claims(workspace=ws, iss=ISSUER, aud=AUDIENCE) | changed)))

    return Caller(headers, verdict)


def _made(make: Callable[[Guarded, dict[str, Any]], str]) -> Caller:
    """A token that somebody made by himself: good claims, and not to be accepted."""
    return Caller(lambda at, ws: bearer(at.noted(make(at, claims(workspace=ws, iss=ISSUER, aud=AUDIENCE)))), _invalid)


def _header(value: str, verdict: Callable[[Rule], tuple[int, str | None]]) -> Caller:
    return Caller(lambda _, __: {"authorization": value}, verdict)


def _token_of(at: Guarded, ws: str) -> str:
    return at.token(workspace=ws)


NOW = int(time.time())
CALLERS: dict[str, Caller] = {
    "rsa": _token(_good),
    "ed25519": Caller(lambda at, ws: bearer(at.token(at.ed25519, workspace=ws)), _good),
    "lower-case-scheme": Caller(lambda at, ws: {"authorization": f"bearer {_token_of(at, ws)}"}, _good),
    "scope-as-list": _token(_good, scope=["runs:read", "runs:write", "more"]),
    "audiences": _token(_good, aud=["other", AUDIENCE]),
    "room-of-its-own": _token(_good, rooms=[ROOM, "room_c"]),
    "same-workspace-named": Caller(lambda at, ws: {**bearer(_token_of(at, ws)), "x-workspace-id": ws}, _good),
    "actor-headers": Caller(lambda at, ws: {**bearer(_token_of(at, ws)), "x-actor-type": "robot"}, _good),
    # No token
    "nothing": Caller(lambda _, __: {}, _missing),
    "workspace-header-alone": Caller(lambda _, ws: {"x-workspace-id": ws}, _missing),
    "basic": _header("Basic dXNlcjpwYXNz", _missing),
    "in-the-url": Caller(lambda _, __: {}, _missing),
    # No good token
    "empty": _header("Bearer", _invalid),
    "two-words": _header("Bearer a b", _invalid),
    "noise": _header("Bearer nonsense", _invalid),
    "dots": _header("Bearer ..", _invalid),
    "latin": _header("Bearer \xe9.\xe9.\xe9", _invalid),
    "deep-header": _header(f"Bearer {by_hand({}, {}).replace('e30', 'W1tb' * 1900, 1)}", _invalid),
    "long": _header("Bearer " + "a" * 9000, _invalid),
    "two-headers": Caller(
        lambda at, ws: [("authorization", f"Bearer {_token_of(at, ws)}"), ("authorization", "Bearer x")], _invalid
    ),
    "wrong-signature": _made(lambda _, it: signed(STRANGER, it)),
    "cut-signature": _made(lambda at, it: signed(at.rsa, it)[:-4]),
    "changed-claims": _made(
        lambda at, it: ".".join(
            (signed(at.rsa, it).split(".")[0], by_hand({}, it | {"scope": "x"}).split(".")[1], "AA")
        )
    ),
    "alg-none": _made(lambda _, it: by_hand({"alg": "none"}, it)),
    "alg-none-with-kid": _made(lambda _, it: by_hand({"alg": "none", "kid": "rsa-1"}, it)),
    "alg-None": _made(lambda _, it: by_hand({"alg": "nOnE", "kid": "rsa-1"}, it)),
    "hs256-with-the-public-key": _made(lambda at, it: hs256(at.rsa.pem, it, kid="rsa-1")),
    "hs256-with-the-ed25519-key": _made(lambda at, it: hs256(at.ed25519.pem, it, kid="ed-1")),
    "hs256-with-nothing": _made(lambda _, it: hs256(b"", it, kid="rsa-1")),
    "rs512": _made(lambda at, it: signed(at.rsa._replace(algorithm="RS512"), it)),
    "key-in-header": _made(lambda _, it: signed(STRANGER, it, jwk=STRANGER.jwk, jku="http://127.0.0.1:1/")),
    "wrong-kid": _made(lambda at, it: signed(at.rsa, it, kid="ed-1")),
    "unknown-kid": _made(lambda _, it: signed(NOBODY, it)),
    "no-kid": _made(lambda at, it: by_hand({"alg": "RS256"}, it, b"x")),
    "kid-is-a-path": _made(lambda at, it: signed(at.rsa, it, kid="../../etc/passwd")),
    "critical-extension": _made(lambda at, it: signed(at.rsa, it, crit=["later"], later=1)),
    "claims-are-a-list": _made(lambda at, _: by_hand({"alg": "RS256", "kid": "rsa-1"}, b"[1]", b"x")),
    "expired": _token(_invalid, exp=NOW - 60),
    "just-expired": Caller(lambda at, ws: bearer(at.token(workspace=ws, exp=int(time.time()) - 1)), _invalid),
    "expired-long-ago": _token(_invalid, exp=0),
    "expires-never": _token(_invalid, exp=None),
    "expires-as-text": _token(_invalid, exp=str(NOW + 3600)),
    "expires-at-infinity": _token(_invalid, exp=float("inf")),
    "expires-in-a-list": _token(_invalid, exp=[NOW + 3600]),
    "starts-in-a-list": _token(_invalid, nbf=[0]),
    "starts-as-text": _token(_invalid, nbf=str(NOW - 60)),
    "starts-true": _token(_invalid, nbf=True),
    "issued-as-text": _token(_invalid, iat=str(NOW - 60)),
    "issued-true": _token(_invalid, iat=True),
    "started": _token(_good, nbf=NOW - 60.5),
    "starts-null": _signed(_good, nbf=None),
    "issued-null": _signed(_good, iat=None),
    "audience-null": _signed(_invalid, aud=None),
    "audience-empty": _token(_invalid, aud=""),
    "audiences-none": _token(_invalid, aud=[]),
    "issued-at-infinity": _token(_invalid, iat=float("inf")),
    "expires-true": _token(_invalid, exp=True),
    "not-yet-valid": _token(_invalid, nbf=NOW + 3600),
    "issued-later": _token(_invalid, iat=NOW + 3600),
    "wrong-issuer": _token(_invalid, iss="https://other.test"),
    "no-issuer": _token(_invalid, iss=None),
    "wrong-audience": _token(_invalid, aud="other"),
    "no-audience": _token(_invalid, aud=None),
    "no-subject": _token(_invalid, sub=None),
    "empty-subject": _token(_invalid, sub=""),
    "long-subject": _token(_invalid, sub="x" * 129),
    "control-in-subject": _token(_invalid, sub="a\nb"),
    "subject-is-a-number": _token(_invalid, sub=7),
    "no-actor-type": _token(_invalid, actor_type=None),
    "unknown-actor-type": _token(_invalid, actor_type="robot"),
    "no-workspace": _token(_invalid, workspace=None),
    "workspace-with-a-dot": _token(_invalid, workspace="ws.other"),
    "workspace-is-a-wildcard": _token(_invalid, workspace="*"),
    "workspace-is-a-list": _token(_invalid, workspace=["ws"]),
    "scope-is-a-number": _token(_invalid, scope=1),
    "rooms-is-text": _token(_invalid, rooms=ROOM),
    "rooms-of-numbers": _token(_invalid, rooms=[1]),
    "rooms-is-a-wildcard": _token(_invalid, rooms=["*"]),
    # Good, and not for this
    "without-scope": _token(_scoped(), scope=None),
    "empty-scope": _token(_scoped(), scope=""),
    "almost-scope": _token(_scoped(), scope="runs:reads runs runs:writ RUNS:READ runs:*"),
    "read-only": _token(_scoped("runs:read"), scope="runs:read"),
    "write-only": _token(_scoped("runs:write"), scope="other runs:write"),
    "other-room": _token(lambda rule: rule.other_room, rooms=[OTHER_ROOM]),
    "no-room": _token(lambda rule: rule.other_room, rooms=[]),
    "other-workspace": _token(lambda rule: rule.other_workspace, workspace="ws_somebody_else"),
    "other-workspace-named": Caller(
        lambda at, ws: {**bearer(_token_of(at, ws)), "x-workspace-id": "ws_somebody_else"},
        lambda rule: (403, "insufficient_scope") if rule.scope else _good(rule),
    ),
    "workspace-named-twice": Caller(
        lambda at, ws: [*bearer(_token_of(at, ws)).items(), ("x-workspace-id", ws), ("x-workspace-id", "ws_other")],
        lambda rule: (400, "invalid_request") if rule.scope else _good(rule),
    ),
    # The cookie
    "cookie": Caller(lambda at, ws: cookie(_token_of(at, ws)), _if_cookie),
    "cookie-among-others": Caller(
        lambda at, ws: {"cookie": f"a=b; {cookie(_token_of(at, ws))['cookie']}; runroom=x"}, _if_cookie
    ),
    "cookie-of-another-name": Caller(lambda at, ws: {"cookie": f"runroom={_token_of(at, ws)}"}, _missing),
    "bad-cookie": Caller(lambda _, __: cookie("nonsense"), _invalid_if_cookie),
    "expired-cookie": Caller(lambda at, ws: cookie(at.token(workspace=ws, exp=NOW - 60)), _invalid_if_cookie),
    "two-cookies": Caller(
        lambda at, ws: {"cookie": f"{cookie(_token_of(at, ws))['cookie']}; {cookie('x')['cookie']}"},
        _invalid_if_cookie,
    ),
    "cookie-twice": Caller(
        lambda at, ws: [("cookie", cookie(_token_of(at, ws))["cookie"])] * 2, _invalid_if_cookie
    ),
    "two-cookies-before-the-header": Caller(
        lambda at, ws: [*[("cookie", cookie(value)["cookie"]) for value in "xy"], *bearer(_token_of(at, ws)).items()],
        _good,
    ),
    "header-and-bad-cookie": Caller(lambda at, ws: {**bearer(_token_of(at, ws)), **cookie("nonsense")}, _good),
    "bad-header-and-cookie": Caller(lambda at, ws: {**bearer("nonsense"), **cookie(_token_of(at, ws))}, _invalid),
    "basic-and-cookie": Caller(
        lambda at, ws: {"authorization": "Basic eDp5", **cookie(_token_of(at, ws))}, _missing
    ),
}  # fmt: skip


@pytest.mark.parametrize("route", sorted(RULES), ids=lambda route: f"{route.service}:{route.method}:{route.path}")
async def test_every_caller_gets_what_is_due(guarded: Guarded, route: Route) -> None:
    """One request of each caller. What is refused leaves the run as it was."""
    rule = RULES[route]
    own = guarded.workspace()
    for name, caller in CALLERS.items():
        run = await own.create(ROOM)
        if route.path.endswith("steps"):
            run = await own.start(run["run_id"])
        if route.service == "query":
            await own.settle(ROOM, run["stream_seq"])
        status, code = (rule.good, None) if rule.is_open else caller.verdict(rule)
        params = {"token": _token_of(guarded, own.id), "access_token": "x"} if name == "in-the-url" else {}
        headers = caller.headers(guarded, own.id)
        answer = await _ask(guarded, route, rule, run["run_id"], headers, params)
        where = f"{name}: {answer.status_code} {answer.text[:300]}"
        assert answer.status_code == status, where
        if code is None:
            continue
        assert expect.problem(answer, status, code), where
        _check_challenge(answer, code, rule, where)
        for sent in guarded.sent:
            assert sent not in answer.text, name
        if route.service == "command":
            assert (await own.create(ROOM))["stream_seq"] == run["stream_seq"] + 1, f"{name}: an event was written"


async def _ask(
    guarded: Guarded, route: Route, rule: Rule, run_id: str, headers: Headers, params: dict[str, str]
) -> httpx.Response:
    path = route.path.replace("{run_id:str}", run_id).replace("{room_id:str}", ROOM)
    body = None if rule.body is None else {k: v.replace("ROOM", ROOM) for k, v in rule.body.items()}
    pairs = headers if isinstance(headers, list) else list(headers.items())
    request = guarded.http.build_request(
        route.method,
        guarded.url(route.service) + path,
        json=body,
        params=params,
        headers=[(name, value.encode("latin-1")) for name, value in pairs],  # pyright: ignore
    )
    response = await guarded.http.send(request, stream=True)
    try:
        if response.headers.get("content-type", "").startswith("text/event-stream"):
            assert (await anext(response.aiter_text())).startswith("retry: ")
            return httpx.Response(response.status_code, headers=response.headers, request=request)
        await response.aread()
        return response
    finally:
        await response.aclose()


def _check_challenge(answer: httpx.Response, code: str, rule: Rule, where: str) -> None:
    """RFC 6750, section 3: an error code only where there was a token, and the scope that is lacking."""
    challenge = answer.headers.get("www-authenticate", "")
    if answer.status_code in (401, 403):
        assert challenge.startswith('Bearer realm="runroom"'), where
        assert ("error=" in challenge) == (code != "missing_token"), where
        if code != "missing_token":
            assert f'error="{code}"' in challenge, where
    if code == "insufficient_scope" and "has no scope" in answer.text:
        assert f'scope="{rule.scope}"' in challenge, where


async def test_no_token_is_in_any_log(guarded: Guarded) -> None:
    """Whatever was sent, and wherever, at the level that logs most."""
    own = guarded.workspace()
    for path in ("/v1/runs", f"/v1/streams/rooms/{fresh('room')}", "/nowhere"):
        await guarded.http.get(f"{guarded.query_url}{path}", params={"access_token": guarded.token()})
    await own.get("/v1/runs", headers=bearer("nonsense"))
    logs = "".join(file.read_text() for file in guarded.logs.iterdir())
    assert "token_keys_read" in logs  # they are the right ones
    for token in guarded.sent:
        assert token not in logs
        for part in token.split("."):
            assert len(part) < 20 or part not in logs
