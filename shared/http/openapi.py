"""The OpenAPI 3.1 document, at ``/schema/openapi.json`` only: no bundled user interface to keep safe.

Invariant: an operation says all it takes and all it answers, every error included. Requests are decoded and answers
encoded by hand, so their descriptions are handed over here, as plain JSON values; schemas are made from the types.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from litestar import Litestar, Request, Response, Router
from litestar.exceptions import NotFoundException
from litestar.openapi.config import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin
from litestar.openapi.spec import Components, Operation, Reference, SecurityScheme

from shared.contracts.forms import TOKEN_PATTERN
from shared.http.auth.credentials import COOKIE
from shared.http.errors import ERRORS
from shared.http.problems import PROBLEM_JSON, Problem, phrase

VERSION = "1.0.0"

Json = dict[str, Any]

COMMON_ERRORS: tuple[str, ...] = ("request_timeout", "uri_too_long", "headers_too_large", "overloaded")
"""What any request may be answered with, whatever it asks for."""
IDENTITY_ERRORS: tuple[str, ...] = ("missing_token", "invalid_token", "insufficient_scope", "keys_unavailable")
"""What any request of an identified caller may be answered with besides, while authentication is on."""
BEARER: Json = {"bearer": []}
COOKIE_OF_SESSION: Json = {"cookie": []}
NO_TOKEN: Json = {}
"""As while authentication is off."""

_SECURITY_SCHEMES: dict[str, SecurityScheme | Reference] = {
    "bearer": SecurityScheme(
        type="http", scheme="bearer", bearer_format="JWT", description="Not needed while authentication is off."
    ),
    "cookie": SecurityScheme(
        type="apiKey",
        name=COOKIE,
        security_scheme_in="cookie",
        description="The same token for browsers' EventSource: POST /v1/session sets it.",
    ),
}

_PROBLEM: Json = {
    "title": "Problem",
    "description": "RFC 9457, with the stable code of the error.",
    "type": "object",
    "required": ["type", "title", "status", "detail", "instance", "error"],
    "properties": {
        "type": {"type": "string", "format": "uri", "description": "urn:runroom:problem: and the code."},
        "title": {"type": "string"},
        "status": {"type": "integer", "minimum": 400, "maximum": 599},
        "detail": {"type": "string", "description": "What is wrong with which member, for people."},
        "instance": {"type": "string", "description": "The path of the request."},
        "error": {"type": "string", "enum": list(ERRORS), "description": "The stable code."},
        "stream_seq": {
            "type": "integer",
            "minimum": 0,
            "description": "With projection_behind: how far the room is reflected.",
        },
    },
}
_RETRY_AFTER: Json = {"description": "Seconds to wait.", "required": True, "schema": {"type": "integer", "minimum": 1}}


def header(name: str, schema: Json, description: str, example: str) -> Json:
    """A request header that may be given."""
    return _parameter("header", name, schema, description, example)


def query(name: str, schema: Json, description: str, example: Any = None) -> Json:
    """A query parameter that may be given."""
    return _parameter("query", name, schema, description, example)


def path(name: str, schema: Json, description: str, example: str) -> Json:
    """A part of the path."""
    return {**_parameter("path", name, schema, description, example), "required": True}


def _parameter(where: str, name: str, schema: Json, description: str, example: Any) -> Json:
    shown = {} if example is None else {"example": example}
    return {"name": name, "in": where, "description": description, "required": False, "schema": schema, **shown}


IDENTITY_PARAMETERS: Sequence[Json] = (
    header(
        "x-workspace-id",
        {"type": "string", "pattern": TOKEN_PATTERN, "default": "ws_dev"},
        "The caller's workspace, while authentication is off.",
        "ws_dev",
    ),
    header(
        "x-actor-type",
        {"type": "string", "enum": ["service", "user", "agent"], "default": "service"},
        "What the caller is, while authentication is off.",
        "agent",
    ),
    header(
        "x-actor-id",
        {"type": "string", "pattern": "^[ -~]{1,128}$", "default": "api"},
        "Who the caller is, while authentication is off.",
        "planner",
    ),
)


def answer(
    description: str, schema: Json, example: Any, *, headers: Json | None = None, media_type: str = "application/json"
) -> Json:
    """One success."""
    content = {media_type: {"schema": schema, "examples": {"example": {"value": example}}}}
    return {"description": description, "content": content, **({"headers": headers} if headers else {})}


def described(
    *,
    answers: Mapping[int, Json],
    errors: Iterable[str] = (),
    parameters: Sequence[Json] = (),
    body: Json | None = None,
    identified: bool = True,
    security: Sequence[Json] = (BEARER, NO_TOKEN),
) -> type[Operation]:
    """An operation with these parameters, successes and error codes.

    ``identified``: it is for a caller with a workspace, and takes and refuses what that takes, with one of
    ``security``.
    """
    codes = [*errors, *COMMON_ERRORS, *(IDENTITY_ERRORS if identified else ())]
    responses = _refusals(dict.fromkeys(codes)) | {str(status): said for status, said in answers.items()}
    takes = [*parameters, *(IDENTITY_PARAMETERS if identified and NO_TOKEN in security else ())]

    @dataclass
    class Described(Operation):
        def to_schema(self) -> Json:
            # Put in here, and not as members, because the framework leaves out what is null, in examples too.
            plain: Json = {"responses": dict(sorted(responses.items()))}
            if takes:
                plain["parameters"] = takes
            if body is not None:
                plain["requestBody"] = body
            if identified:
                plain["security"] = list(security)
            return super().to_schema() | plain

    return Described


def _refusals(codes: Iterable[str]) -> dict[str, Json]:
    by_status: dict[int, list[str]] = {}
    for code in codes:
        by_status.setdefault(ERRORS[code].status, []).append(code)
    return {str(status): _refusal(status, sorted(same)) for status, same in by_status.items()}


def _refusal(status: int, codes: list[str]) -> Json:
    schema = {
        "allOf": [{"$ref": "#/components/schemas/Problem"}],
        "properties": {"status": {"const": status}, "error": {"enum": codes}},
    }
    examples: Json = {}
    for code in codes:
        extra = {"stream_seq": 3} if code == "projection_behind" else {}
        problem = Problem(status, code, ERRORS[code].example, extra=extra)
        examples[code] = {"summary": ERRORS[code].meaning, "value": msgspec.json.decode(problem.body("/v1/runs"))}
    headers = {"headers": {"Retry-After": _RETRY_AFTER}} if any(ERRORS[code].retry_after for code in codes) else {}
    return {
        "description": f"{phrase(status)}: " + ", ".join(f"`{code}`" for code in codes),
        "content": {PROBLEM_JSON: {"schema": schema, "examples": examples}},
        **headers,
    }


def schemas_of(*types: Any) -> dict[str, Json]:
    """The schemas of msgspec types by name, with all they refer to."""
    return msgspec.json.schema_components(types, ref_template="#/components/schemas/{name}")[1]


def reference(name: str) -> Json:
    return {"$ref": f"#/components/schemas/{name}"}


class _Document(JsonRenderPlugin):
    """Renders the document with the schemas that operations refer to: the framework knows only those it has made."""

    def __init__(self, schemas: Mapping[str, Json]) -> None:
        super().__init__()
        self._schemas = {"Problem": _PROBLEM, **schemas}

    def complete(self, document: Json) -> Json:
        components = document.get("components", {})
        schemas = dict(sorted((components.get("schemas", {}) | self._schemas).items()))
        return {**document, "components": {**components, "schemas": schemas}}

    def render(self, request: Request[Any, Any, Any], openapi_schema: Json) -> bytes:  # noqa: ARG002
        return msgspec.json.encode(self.complete(openapi_schema))


def openapi_config(title: str, description: str, schemas: Mapping[str, Json] | None = None) -> OpenAPIConfig:
    """``schemas`` are those that operations refer to, by name."""
    return OpenAPIConfig(
        title=title,
        version=VERSION,
        description=description,
        components=Components(security_schemes=_SECURITY_SCHEMES),
        openapi_router=Router(
            "/schema", route_handlers=[], include_in_schema=False, after_request=_no_page_for_what_is_not_there
        ),
        render_plugins=[_Document(schemas or {})],
        use_handler_docstrings=True,
    )


def openapi_document(app: Litestar) -> Json:
    """The document as the application serves it."""
    plugins = app.openapi_config.render_plugins if app.openapi_config else ()
    document = app.openapi_schema.to_schema()
    for plugin in plugins:
        if isinstance(plugin, _Document):
            document = plugin.complete(document)
    return document


async def _no_page_for_what_is_not_there(response: Response[Any]) -> Response[Any]:
    # Everything else below the router is the framework's own 404, in HTML.
    if response.status_code == 404:
        raise NotFoundException
    return response
