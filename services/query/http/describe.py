"""How the routes are described in OpenAPI. Parameters are parsed by hand, so their description is handed over here."""

from collections.abc import Callable
from dataclasses import dataclass

from litestar.openapi.spec import (
    OpenAPIFormat,
    OpenAPIMediaType,
    OpenAPIResponse,
    OpenAPIType,
    Operation,
    Parameter,
    Schema,
)

from services.query.http.parameters import MOST_SEQ, STATUSES

_TOKEN = Schema(type=OpenAPIType.STRING, pattern="^[A-Za-z0-9_-]{1,128}$")
_TEXT = Schema(type=OpenAPIType.STRING)
_TIME = Schema(type=OpenAPIType.STRING, format=OpenAPIFormat.DATE_TIME)


def _integer(least: int, most: int, default: int | None = None) -> Schema:
    return Schema(type=OpenAPIType.INTEGER, minimum=least, maximum=most, default=default)


def _query(name: str, schema: Schema, description: str) -> Parameter:
    return Parameter(name=name, param_in="query", schema=schema, description=description, required=False)


_FRESHNESS = [
    _query("min_seq", _integer(0, MOST_SEQ), "The answer reflects this stream_seq of the room, or is a 503"),
    _query("wait", _integer(0, 30_000, 2000), "Milliseconds to wait for min_seq"),
]
_CURSOR = _query("cursor", _TEXT, "next_cursor of the page before, with the same filters")

LIST_PARAMETERS = [
    _query("room_id", _TOKEN, "Runs of this room; needed with min_seq"),
    _query("thread_id", _TOKEN, "Runs of this thread"),
    _query(
        "status",
        Schema(type=OpenAPIType.ARRAY, items=Schema(type=OpenAPIType.STRING, enum=STATUSES)),
        "Runs in any of these states; repeatable",
    ),
    _query("tag", Schema(type=OpenAPIType.ARRAY, items=_TEXT), "Runs with all of these tags; repeatable"),
    _query("correlation_id", _TEXT, "Runs with this correlation id"),
    _query("created_after", _TIME, "Runs created after this time, exclusive"),
    _query("created_before", _TIME, "Runs created before this time, exclusive"),
    _query("limit", _integer(1, 200, 50), "Most runs in the page"),
    _CURSOR,
    *_FRESHNESS,
]
RUN_PARAMETERS = _FRESHNESS
STEP_PARAMETERS = [_query("limit", _integer(1, 200, 200), "Most steps in the page"), _CURSOR, *_FRESHNESS]
STREAM_PARAMETERS = [
    _query(
        "from_seq",
        Schema(one_of=[_integer(0, MOST_SEQ, 0), Schema(type=OpenAPIType.STRING, const="latest")]),
        "Events after this stream_seq; `latest` is the room's head",
    ),
    Parameter(
        name="Last-Event-ID",
        param_in="header",
        schema=_integer(0, MOST_SEQ),
        description="The id of the last frame received; wins over from_seq",
        required=False,
    ),
]


def event_stream(operation: Operation) -> None:
    """Says that success is an event stream."""
    content = {"text/event-stream": OpenAPIMediaType(schema=_TEXT)}
    operation.responses = {
        **(operation.responses or {}),
        "200": OpenAPIResponse(description="Server-sent events, for as long as the client stays", content=content),
    }


def described(parameters: list[Parameter], also: Callable[[Operation], None] | None = None) -> type[Operation]:
    """An operation with these parameters beside those of the path."""

    @dataclass
    class Described(Operation):
        def __post_init__(self) -> None:
            self.parameters = [*(self.parameters or []), *parameters]
            if also is not None:
                also(self)

    return Described
