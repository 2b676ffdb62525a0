"""The session cookie: a token for browsers' EventSource, which sends no header of ours.

Invariant: a cookie is only ever set to a token that came in ``Authorization``, which no other site's page can make a
browser send; and it is only ever good for GETs, which change nothing. Nobody can be logged in or made to act unawares.
"""

import time
from typing import Any, cast

from litestar import Request, Response, delete, post
from litestar.datastructures import Cookie
from litestar.exceptions import NotFoundException
from litestar.types import ControllerRouterHandler

from shared.http.auth.access import Access, TokenAccess, seconds_left
from shared.http.auth.credentials import COOKIE, bearer_token
from shared.http.identity import Identity
from shared.http.openapi import BEARER, Json, described
from shared.http.problems import invalid_request

_LONGEST: int = 4096 - len(COOKIE)
"""Bytes of name and value together that browsers keep (RFC 6265, section 5.4 of its revision)."""
_MOST_SECONDS: int = 400 * 24 * 3600
"""Browsers keep no cookie longer."""

_SET: Json = {
    "Set-Cookie": {"description": f"{COOKIE}: HttpOnly, Secure, SameSite=Strict.", "schema": {"type": "string"}}
}
_OPEN = described(
    answers={204: {"description": "The cookie is set, for as long as the token is valid", "headers": _SET}},
    errors=("invalid_request", "not_found"),
    security=(BEARER,),
)
_CLOSE = described(
    answers={204: {"description": "The cookie is cleared", "headers": _SET}}, errors=("not_found",), identified=False
)


def session_routes(access: Access) -> list[ControllerRouterHandler]:
    """``POST`` and ``DELETE /v1/session``. With authentication off they are not found: there is nothing to remember."""
    has_sessions = isinstance(access, TokenAccess)

    @post(
        "/v1/session",
        operation_id="OpenSession",
        status_code=204,
        tags=["session"],
        summary="Set the cookie",
        operation_class=_OPEN,
    )
    async def open_session(request: Request[Any, Any, Any]) -> Response[None]:
        if not has_sessions:
            raise NotFoundException
        token = bearer_token(request.scope) or b""
        if len(token) > _LONGEST:
            raise invalid_request(f"Authorization: a token of more than {_LONGEST} bytes fits in no cookie")
        # Verified, so it is made of characters that a cookie may hold.
        expires_at = cast("Identity", request.scope["user"]).expires_at or 0.0
        return _answer(token.decode("ascii"), min(_MOST_SECONDS, seconds_left(expires_at, time.time())))

    @delete(
        "/v1/session",
        operation_id="CloseSession",
        status_code=204,
        tags=["session"],
        summary="Clear the cookie",
        operation_class=_CLOSE,
    )
    async def close_session() -> Response[None]:
        if not has_sessions:
            raise NotFoundException
        return _answer("", 0)

    return [*access.protect([open_session], None), close_session]


def _answer(value: str, max_age: int) -> Response[None]:
    cookie = Cookie(COOKIE, value=value, path="/", max_age=max_age, secure=True, httponly=True, samesite="strict")
    return Response(None, status_code=204, cookies=[cookie], headers={"cache-control": "no-store"})
