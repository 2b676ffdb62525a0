"""The OpenAPI documents of both services, as they serve them: their routes without what is behind them."""

from typing import Any, cast

from litestar import Litestar
from litestar.openapi.config import OpenAPIConfig

from services.command.http import describe as command
from services.command.http.routes import command_routes
from services.query.http import describe as query
from services.query.http.runs import run_routes
from services.query.http.streams import stream_route
from shared.http.auth.access import OpenAccess
from shared.http.auth.session import session_routes
from shared.http.health import health_routes
from shared.http.openapi import openapi_document

_NOTHING = cast("Any", None)


def command_document() -> dict[str, Any]:
    return _document(command_routes(_NOTHING, _NOTHING, _NOTHING, _NOTHING), command.openapi())


def query_document() -> dict[str, Any]:
    routes = [*run_routes(_NOTHING, _NOTHING, _NOTHING), stream_route(_NOTHING, _NOTHING, _NOTHING, _NOTHING)]
    return _document([*routes, *session_routes(OpenAccess(()))], query.openapi())


def _document(routes: list[Any], config: OpenAPIConfig) -> dict[str, Any]:
    return openapi_document(Litestar([*routes, *health_routes({})], openapi_config=config))
