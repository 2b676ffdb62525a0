"""How the reads and the room stream are described in OpenAPI: what each takes, answers and refuses."""

from litestar.openapi.config import OpenAPIConfig
from litestar.openapi.spec import Operation

from services.query.feed.frame import (
    BUSY_RETRY_MS,
    busy_frame,
    caught_up_frame,
    event_frame,
    reset_frame,
    retry_frame,
)
from services.query.http.parameters import MOST_SEQ, MOST_TAGS, STATUSES
from services.query.reads import Run, Step
from shared.contracts import examples
from shared.contracts.events import encode_event
from shared.contracts.forms import NO_NUL, TOKEN_PATTERN, TYPEID_SUFFIX
from shared.contracts.ids import CORRELATION_ID_MAX
from shared.http.openapi import (
    BEARER,
    COOKIE_OF_SESSION,
    NO_TOKEN,
    Json,
    answer,
    described,
    header,
    openapi_config,
    path,
    query,
    reference,
    schemas_of,
)

_TOKEN: Json = {"type": "string", "pattern": TOKEN_PATTERN}
_TAG: Json = {"type": "string", "pattern": NO_NUL}
_TIME: Json = {"type": "string", "format": "date-time"}
_CREATED, _, _STEP, _COMPLETED, _ = examples.EXAMPLES


def _integer(least: int, most: int, default: int | None = None) -> Json:
    return {"type": "integer", "minimum": least, "maximum": most, **({} if default is None else {"default": default})}


_FRESHNESS = (
    query(
        "min_seq",
        _integer(0, MOST_SEQ, 0),
        "The answer reflects this stream_seq of the room, or is a 503 `projection_behind`.",
    ),
    query("wait", _integer(0, 30_000, 2000), "Milliseconds to wait for min_seq."),
)
_CURSOR = query(
    "cursor", {"type": "string"}, "`next_cursor` of the page before, with the same filters in the same workspace."
)
_RUN_ID = path(
    "run_id",
    {"type": "string", "pattern": f"^run_{TYPEID_SUFFIX}$"},
    "The run; what has another form is nobody's (404).",
    examples.RUN_ID,
)
_SECURITY = (BEARER, COOKIE_OF_SESSION, NO_TOKEN)
_ALWAYS = ("invalid_request", "not_acceptable")
_READS = (*_ALWAYS, "store_unavailable", "overloaded", "projection_behind")

_RUN_EXAMPLE: Json = {
    "run_id": examples.RUN_ID,
    "workspace_id": examples.WORKSPACE_ID,
    "room_id": examples.ROOM_ID,
    "thread_id": "thread_1",
    "status": "succeeded",
    "title": "Weekly report",
    "goal": "Summarise what changed, for Zoë",
    "input": {"since": "2026-01-14", "sources": ["wiki", None], "budget": 2.5},
    "output": {"changes": 3},
    "error": {},
    "summary": "Three changes",
    "tags": ["report", "weekly"],
    "created_at": _CREATED.occurred_at,
    "started_at": "2026-01-21T09:30:02.000000Z",
    "ended_at": _COMPLETED.occurred_at,
    "updated_at": _COMPLETED.occurred_at,
    "correlation_id": examples.CORRELATION_ID,
    "last_event_id": _COMPLETED.event_id,
    "stream_seq": _COMPLETED.stream_seq,
}
_STEP_EXAMPLE: Json = {
    "step_id": examples.STEP_ID,
    "run_id": examples.RUN_ID,
    "workspace_id": examples.WORKSPACE_ID,
    "room_id": examples.ROOM_ID,
    "thread_id": "thread_1",
    "kind": "tool",
    "status": "queued",
    "title": "Search the wiki",
    "input": {"query": "changes"},
    "output": {},
    "error": {},
    "created_at": _STEP.occurred_at,
    "updated_at": _STEP.occurred_at,
    "last_event_id": _STEP.event_id,
    "stream_seq": _STEP.stream_seq,
}

LIST_RUNS: type[Operation] = described(
    security=_SECURITY,
    answers={200: answer("A page of runs", reference("RunPage"), {"runs": [_RUN_EXAMPLE], "next_cursor": None})},
    errors=(*_READS, "missing_room_id", "invalid_status", "invalid_cursor"),
    parameters=(
        query("room_id", _TOKEN, "Runs of this room; needed with min_seq.", examples.ROOM_ID),
        query("thread_id", _TOKEN, "Runs of this thread."),
        query(
            "status",
            {"type": "array", "items": {"type": "string", "enum": list(STATUSES)}},
            "Runs in any of these states; repeatable.",
            ["queued", "running"],
        ),
        query(
            "tag",
            {"type": "array", "items": _TAG, "maxItems": MOST_TAGS},
            "Runs with all of these tags; repeatable.",
            ["report"],
        ),
        query(
            "correlation_id",
            {"type": "string", "minLength": 1, "maxLength": CORRELATION_ID_MAX, "pattern": r"^[^\s]+$"},
            "Runs with this correlation id.",
        ),
        query("created_after", _TIME, "Runs created after this time, exclusive; with an offset."),
        query("created_before", _TIME, "Runs created before this time, exclusive; with an offset."),
        query("limit", _integer(1, 200, 50), "Most runs in the page."),
        _CURSOR,
        *_FRESHNESS,
    ),
)
GET_RUN: type[Operation] = described(
    security=_SECURITY,
    answers={200: answer("The run", reference("RunAnswer"), {"run": _RUN_EXAMPLE})},
    errors=(*_READS, "run_not_found"),
    parameters=(_RUN_ID, *_FRESHNESS),
)
LIST_STEPS: type[Operation] = described(
    security=_SECURITY,
    answers={200: answer("A page of steps", reference("StepPage"), {"steps": [_STEP_EXAMPLE], "next_cursor": None})},
    errors=(*_READS, "run_not_found", "invalid_cursor"),
    parameters=(_RUN_ID, query("limit", _integer(1, 200, 200), "Most steps in the page."), _CURSOR, *_FRESHNESS),
)


def _stream_answer() -> Json:
    followed = [event_frame(event.stream_seq, encode_event(event)) for event in (_CREATED, _STEP)]
    shown = {
        "history, then live": retry_frame(1500) + followed[0] + caught_up_frame(1) + followed[1] + b":\n\n",
        "a cursor beyond the room": retry_frame(1500) + reset_frame("cursor_ahead", 1, 3) + caught_up_frame(3),
        "a cursor before what is kept": retry_frame(1500) + reset_frame("history_trimmed", 2, 3),
        "no room for one more": retry_frame(BUSY_RETRY_MS) + busy_frame("room"),
    }
    return {
        "description": "Server-sent events, for as long as the client stays. An event is `id: <stream_seq>` and "
        "`data: <envelope>`, without a name. Control frames are named and carry no id: `caught-up` when history is "
        "sent, `reset` when the cursor cannot be honoured, `busy` before the end when there is no room for one more "
        "stream. A comment comes at least every 15 s. See asyncapi.json.",
        "headers": {
            "Cache-Control": {"schema": {"type": "string", "const": "no-cache, no-transform"}},
            "X-Accel-Buffering": {"schema": {"type": "string", "const": "no"}},
        },
        "content": {
            "text/event-stream": {
                "schema": {"type": "string"},
                "examples": {name: {"value": text.decode()} for name, text in shown.items()},
            }
        },
    }


STREAM_ROOM: type[Operation] = described(
    security=_SECURITY,
    answers={200: _stream_answer()},
    errors=(*_ALWAYS, "invalid_cursor"),
    parameters=(
        path("room_id", _TOKEN, "The room; one nobody has written to is an open, empty stream.", examples.ROOM_ID),
        query(
            "from_seq",
            {"oneOf": [_integer(0, MOST_SEQ, 0), {"type": "string", "const": "latest"}]},
            "Events after this stream_seq; `latest` is the room's head.",
            0,
        ),
        header(
            "Last-Event-ID",
            _integer(0, MOST_SEQ),
            "The id of the last frame received; wins over from_seq. Browsers send it by themselves.",
            "3",
        ),
    ),
)


def _page(rows: str, of: str) -> Json:
    return {
        "type": "object",
        "required": [rows, "next_cursor"],
        "properties": {
            rows: {"type": "array", "items": reference(of), "maxItems": 200},
            "next_cursor": {"type": ["string", "null"], "description": "For the next page; null on the last one."},
        },
    }


def openapi() -> OpenAPIConfig:
    """The description of the service as a whole."""
    run: Json = {"type": "object", "required": ["run"], "properties": {"run": reference("Run")}}
    schemas: dict[str, Json] = schemas_of(Run, Step)
    for row in ("Run", "Step"):
        schemas[row].pop("description", None)  # of the struct, for those who write it
    pages = {"RunAnswer": run, "RunPage": _page("runs", "Run"), "StepPage": _page("steps", "Step")}
    return openapi_config("Runroom queries", "Read runs and steps, follow rooms.", schemas | pages)
