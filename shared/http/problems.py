"""Errors on the wire: ``application/problem+json`` (RFC 9457) with the stable ``error`` code of the contract.

Invariant: every answer that is not a success has this shape, whoever made it: a handler, the router or a crash.
"""

from collections.abc import Callable
from http import HTTPStatus
from typing import Any

import msgspec
import structlog
from litestar import Request, Response
from litestar.exceptions import HTTPException

from shared.http.exchange import current_exchange, path_as_sent
from shared.metrics import AUTH_ERRORS, AUTH_REFUSALS
from shared.telemetry import Logger

PROBLEM_JSON = "application/problem+json"
CONNECTION = "runroom.connection"
"""The ASGI extension by which a request's scope leads to its connection, for as long as the client is there."""

_log: Logger = structlog.get_logger("http")

_CODES = {
    400: "invalid_request",
    401: "missing_token",
    403: "insufficient_scope",
    404: "not_found",
    405: "method_not_allowed",
    406: "not_acceptable",
    415: "unsupported_media_type",
    500: "internal_error",
}


_PHRASES = {413: "Content Too Large", 414: "URI Too Long", 422: "Unprocessable Content"}


def phrase(status: int) -> str:
    """The reason phrase of RFC 9110, which Python knows by its older name in some versions."""
    return _PHRASES.get(status) or HTTPStatus(status).phrase


class Problem(Exception):  # noqa: N818  # RFC 9457's own word
    """An answer that is not a success. ``extra`` are extension members; ``retry_after`` is in seconds.

    ``challenge`` is the value of ``WWW-Authenticate``.
    """

    def __init__(
        self,
        status: int,
        error: str,
        detail: str,
        *,
        retry_after: int | None = None,
        challenge: str | None = None,
        extra: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.error = error
        self.detail = detail
        self.retry_after = retry_after
        self.challenge = challenge
        self.extra = extra or {}

    def body(self, instance: str) -> bytes:
        """The JSON document; ``instance`` is the path of the request."""
        return msgspec.json.encode(
            {
                "type": f"urn:runroom:problem:{self.error}",
                "title": phrase(self.status),
                "status": self.status,
                "detail": self.detail,
                "instance": instance,
                "error": self.error,
                **self.extra,
            }
        )


def invalid_request(detail: str) -> Problem:
    """400 ``invalid_request``; the detail names the member and says why."""
    return Problem(400, "invalid_request", detail)


def insufficient_scope(detail: str, scope: str | None = None) -> Problem:
    """403 ``insufficient_scope`` (RFC 6750, section 3.1); ``scope`` is what the token lacks, if it is one."""
    lacking = f', scope="{scope}"' if scope else ""
    challenge = f'Bearer realm="runroom", error="insufficient_scope", error_description="{detail}"{lacking}'
    return Problem(403, "insufficient_scope", detail, challenge=challenge)


def problem_response(
    request: Request[Any, Any, Any], problem: Problem, headers: dict[str, str] | None = None
) -> Response[bytes]:
    if (exchange := current_exchange()) is not None:
        exchange.error = problem.error
    headers = {"cache-control": "no-store", **(headers or {})}
    if problem.retry_after is not None:
        headers["Retry-After"] = str(problem.retry_after)
    if problem.challenge is not None:
        headers["WWW-Authenticate"] = problem.challenge
    return Response(
        problem.body(path_as_sent(request.scope)), status_code=problem.status, media_type=PROBLEM_JSON, headers=headers
    )


def _on_problem(request: Request[Any, Any, Any], problem: Problem) -> Response[bytes]:
    if problem.error in AUTH_ERRORS:
        AUTH_REFUSALS.labels(problem.error).inc()
        if (exchange := current_exchange()) is not None:
            exchange.reason = problem.detail  # that of other problems may quote what the client has sent
    return problem_response(request, problem)


def _on_http_exception(request: Request[Any, Any, Any], error: HTTPException) -> Response[bytes]:
    if error.status_code >= 500:
        return _on_crash(request, error)
    code = _CODES.get(error.status_code, "invalid_request")
    match error.status_code:
        case 404:
            detail = "there is nothing at this path"
        case 405:
            detail = f"{request.method} is not allowed on this path"
        case _:
            detail = error.detail
    # Only what a client needs: the framework also hands over headers of its own making.
    headers = {k: v for k, v in (error.headers or {}).items() if k.lower() == "allow"}
    return problem_response(request, Problem(error.status_code, code, detail), headers)


def _on_crash(request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    _log.error("request_crashed", method=request.method, path=path_as_sent(request.scope), exc_info=error)
    if (exchange := current_exchange()) is not None:
        exchange.is_reported = True
    return problem_response(request, Problem(500, "internal_error", "the request could not be handled"))


Handler = Callable[[Request[Any, Any, Any], Any], Response[Any]]

EXCEPTION_HANDLERS: dict[int | type[Exception], Handler] = {
    Problem: _on_problem,
    HTTPException: _on_http_exception,
    Exception: _on_crash,
}
"""For ``Litestar(exception_handlers=…)``."""
