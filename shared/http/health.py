"""``/healthz``, ``/readyz`` and ``/metrics``, the same in every service.

Invariant: health says the process is up and asks nobody; readiness asks every dependency, within a bounded time.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import msgspec
from litestar import Response, get
from litestar.handlers import HTTPRouteHandler

from shared.http.openapi import Json, answer, described
from shared.telemetry import render_metrics

Check = Callable[[], Awaitable[str]]
"""Asks one dependency. Returns what to say when it is well; raises when it is not."""

_SECONDS = 2.0
_STATUS: Json = {"type": "object", "required": ["status"], "properties": {"status": {"type": "string", "enum": ["ok"]}}}
_READINESS: Json = {
    "type": "object",
    "required": ["status", "dependencies"],
    "properties": {
        "status": {"type": "string", "enum": ["ok", "failed"]},
        "dependencies": {
            "type": "object",
            "additionalProperties": {
                "type": "object",
                "required": ["status", "detail"],
                "properties": {
                    "status": {"type": "string", "enum": ["ok", "failed"]},
                    "detail": {"type": "string"},
                },
            },
        },
    },
}


async def _ask(check: Check) -> dict[str, str]:
    try:
        async with asyncio.timeout(_SECONDS):
            return {"status": "ok", "detail": await check()}
    except Exception as error:  # whatever is wrong with a dependency is its readiness
        return {"status": "failed", "detail": type(error).__name__}


def health_routes(
    checks: Mapping[str, Check], dispensable: Mapping[str, Check] | None = None
) -> list[HTTPRouteHandler]:
    """The three routes; ``checks`` maps a dependency's name to how it is asked.

    ``/readyz`` answers 200 or 503 with ``{"status": "ok"|"failed", "dependencies": {name: {"status", "detail"}}}``.
    ``dispensable`` dependencies are shown there too, but the service does its work without them.
    """
    asked = dict(checks) | dict(dispensable or {})

    up = described(answers={200: answer("It is up", _STATUS, {"status": "ok"})}, identified=False)
    ready = described(
        answers={
            200: answer("Ready", _READINESS, _readiness("ok", "ok", "answers")),
            503: answer("Not ready", _READINESS, _readiness("failed", "failed", "TimeoutError")),
        },
        identified=False,
    )
    measured = described(
        answers={
            200: answer(
                "Prometheus text format",
                {"type": "string"},
                "# TYPE process_open_fds gauge\nprocess_open_fds 12.0\n",
                media_type="text/plain",
            )
        },
        identified=False,
    )

    @get("/healthz", tags=["health"], summary="The process is up", operation_class=up)
    async def healthz() -> dict[str, str]:
        return {"status": "ok"}

    @get("/readyz", tags=["health"], summary="Its dependencies answer", operation_class=ready)
    async def readyz() -> Response[bytes]:
        answers = await asyncio.gather(*(_ask(check) for check in asked.values()))
        dependencies: dict[str, Any] = dict(zip(asked, answers, strict=True))
        well = all(dependencies[name]["status"] == "ok" for name in checks)
        body = {"status": "ok" if well else "failed", "dependencies": dependencies}
        return Response(msgspec.json.encode(body), status_code=200 if well else 503, media_type="application/json")

    @get("/metrics", tags=["health"], summary="Metrics in Prometheus text format", operation_class=measured)
    async def metrics() -> Response[bytes]:
        content, content_type = render_metrics()
        return Response(content, media_type=content_type)

    return [healthz, readyz, metrics]


def _readiness(status: str, of_one: str, detail: str) -> Json:
    return {"status": status, "dependencies": {"postgres": {"status": of_one, "detail": detail}}}
