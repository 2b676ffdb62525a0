"""What is required of a request before its handler sees it.

Invariant: a route is either open to everybody who reaches the service, by being left out here, or its handler runs for
an ``Identity`` that this module let in. With authentication on, a handler that nothing protects has no identity to work
for, and fails.
"""

import asyncio
import math
import time
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final, Protocol

from litestar import Request, Router
from litestar.connection import ASGIConnection
from litestar.handlers import HTTPRouteHandler
from litestar.middleware import AbstractAuthenticationMiddleware, AuthenticationResult
from litestar.types import ASGIApp, ControllerRouterHandler, Scope

from shared.http.auth.claims import Grant, TokenScope
from shared.http.auth.credentials import COOKIE, MalformedCredentialsError, request_token
from shared.http.auth.keys import Keys, KeysAwayError, SecretKey, jwks_keys
from shared.http.auth.settings import AuthSettings
from shared.http.auth.verifier import EXPIRED, Policy, TokenRefusedError, Verifier
from shared.http.health import Check
from shared.http.identity import Identify, Identity, identify_by_headers, identify_by_token
from shared.http.problems import Problem, insufficient_scope

_RETRY_AFTER_SECONDS: Final = 5


class Access(Protocol):
    """How a service lets requests in. ``identify`` is for its handlers."""

    identify: Identify
    checks: Mapping[str, Check]
    """What it depends on, for readiness."""

    def protect(
        self, handlers: Sequence[HTTPRouteHandler], scope: TokenScope | None, *, takes_cookie: bool = False
    ) -> Sequence[ControllerRouterHandler]:
        """The handlers, for requests with a token that has ``scope`` alone; None asks for any token.

        ``takes_cookie``: it may be in the session cookie of a GET.
        """
        ...

    async def run(self) -> None:
        """Works until cancelled."""
        ...


class OpenAccess:
    """Authentication is off: the caller is whoever the headers say, and pays nothing for it.

    ``origins`` are those whose pages may send commands.
    """

    def __init__(self, origins: Collection[str]) -> None:
        self.identify: Identify = identify_by_headers(origins)
        self.checks: Mapping[str, Check] = {}

    def protect(
        self,
        handlers: Sequence[HTTPRouteHandler],
        scope: TokenScope | None,  # noqa: ARG002
        *,
        takes_cookie: bool = False,  # noqa: ARG002
    ) -> Sequence[ControllerRouterHandler]:
        return handlers

    async def run(self) -> None:
        await asyncio.Event().wait()


class TokenAccess:
    """Authentication is on."""

    def __init__(self, keys: Keys, policy: Policy) -> None:
        self.identify: Identify = _identify_in_time
        self.checks: Mapping[str, Check] = {"token_keys": self._are_keys_known}
        self._keys = keys
        self._verifier = Verifier(keys, policy)

    def protect(
        self, handlers: Sequence[HTTPRouteHandler], scope: TokenScope | None, *, takes_cookie: bool = False
    ) -> Sequence[ControllerRouterHandler]:
        # A function, because the framework makes a deep copy of whatever else a router has: of the keys, that is, and
        # nobody would keep those up to date.
        def let_in(app: ASGIApp) -> ASGIApp:
            return _LetIn(app, access=self, required=scope, takes_cookie=takes_cookie)

        return [Router("/", route_handlers=handlers, middleware=[let_in])]

    async def _are_keys_known(self) -> str:
        self._keys.require_any()
        return "known"

    async def run(self) -> None:
        await self._keys.run()

    async def grant(self, scope: Scope, *, takes_cookie: bool) -> Grant:
        """What the request's token grants. Raises a 401 ``Problem``, or a 503 one when there is no telling."""
        try:
            token = request_token(scope, takes_cookie=takes_cookie)
            if token is None:
                raise _missing_token(takes_cookie=takes_cookie)
            return await self._verifier.verify(token)
        except (MalformedCredentialsError, TokenRefusedError) as error:
            raise _invalid_token(str(error)) from None
        except KeysAwayError:
            detail = "the keys that tokens are verified with are not known here now"
            raise Problem(503, "keys_unavailable", detail, retry_after=_RETRY_AFTER_SECONDS) from None


class _LetIn(AbstractAuthenticationMiddleware):
    """Takes the token, and requires the scope of it.

    Here and not in a guard: the framework copies the whole handler for each guard of each request, and has OPTIONS
    pass guards too, without a user.
    """

    def __init__(self, app: ASGIApp, *, access: TokenAccess, required: TokenScope | None, takes_cookie: bool) -> None:
        super().__init__(app)
        self._access = access
        self._required = required
        self._takes_cookie = takes_cookie

    async def authenticate_request(self, connection: ASGIConnection[Any, Any, Any, Any]) -> AuthenticationResult:
        scope = connection.scope
        takes_cookie = self._takes_cookie and scope["type"] == "http" and scope["method"] == "GET"
        grant = await self._access.grant(scope, takes_cookie=takes_cookie)
        if self._required is not None and self._required not in grant.scopes:
            scope["user"] = grant.identity  # for the line that says who was refused
            raise insufficient_scope(f"the token has no scope {self._required}", self._required)
        return AuthenticationResult(user=grant.identity, auth=None)


def _identify_in_time(request: Request[Any, Any, Any]) -> Identity:
    """As ``identify_by_token``. Raises a 401 ``Problem`` as well, when the token has expired since it let the request
    in: that was when the head had come, and a body may take its time."""
    identity = identify_by_token(request)
    if identity.expires_at is None or time.time() >= identity.expires_at:
        raise _invalid_token(EXPIRED)
    return identity


def open_access(settings: AuthSettings | None, origins: Collection[str]) -> Access:
    """Access as the settings have it; ``origins`` are those whose pages may read answers."""
    if settings is None:
        return OpenAccess(origins)
    keys = SecretKey(settings.secret) if settings.secret is not None else jwks_keys(settings.jwks or "")
    return TokenAccess(keys, Policy(settings.issuer, settings.audience, settings.leeway_seconds))


def seconds_left(expires_at: float, now: float) -> int:
    """Whole seconds until then, none beyond it."""
    return max(0, math.ceil(expires_at - now))


def _missing_token(*, takes_cookie: bool) -> Problem:
    cookie = f", or the cookie {COOKIE}" if takes_cookie else ""
    detail = f"Authorization: expected a Bearer token{cookie}"
    return Problem(401, "missing_token", detail, challenge='Bearer realm="runroom"')


def _invalid_token(detail: str) -> Problem:
    challenge = f'Bearer realm="runroom", error="invalid_token", error_description="{detail}"'
    return Problem(401, "invalid_token", detail, challenge=challenge)
