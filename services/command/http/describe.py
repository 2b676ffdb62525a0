"""How the commands are described in OpenAPI: what each takes, answers and refuses."""

from typing import Any

import msgspec
from litestar.openapi.config import OpenAPIConfig
from litestar.openapi.spec import Operation

from services.command.domain.batch import AcceptedBody
from services.command.http.bodies import (
    Body,
    CompleteRunBody,
    CreateRunBody,
    CreateStepBody,
    FailRunBody,
    StartRunBody,
)
from shared.contracts import examples
from shared.contracts.forms import TYPEID_SUFFIX
from shared.http.openapi import Json, answer, described, header, openapi_config, path, reference, schemas_of

_CREATED, _STARTED, _STEP, _COMPLETED, _FAILED = examples.EXAMPLES
_REQUIRED: dict[type[Body], str] = {CreateRunBody: "room_id", CreateStepBody: "kind"}
"""Optional to the decoder alone: each has an error code of its own."""
_EXAMPLES: dict[type[Body], Json] = {
    CreateRunBody: {
        "room_id": examples.ROOM_ID,
        "thread_id": "thread_1",
        **msgspec.to_builtins(_CREATED.data),
        "correlation_id": examples.CORRELATION_ID,
        "causation_id": None,
    },
    StartRunBody: {},
    CompleteRunBody: msgspec.to_builtins(_COMPLETED.data),
    FailRunBody: msgspec.to_builtins(_FAILED.data),
    CreateStepBody: msgspec.to_builtins(_STEP.data),
}
_ON_A_RUN = ("run_not_found",)
_ALWAYS = (
    "invalid_request",
    "not_acceptable",
    "body_too_large",
    "unsupported_media_type",
    "idempotency_key_reused",
    "store_unavailable",
    "overloaded",
)
_RUN_ID = path(
    "run_id",
    {"type": "string", "pattern": f"^run_{TYPEID_SUFFIX}$"},
    "The run; what has another form is nobody's (404).",
    examples.RUN_ID,
)
_KEY = header(
    "Idempotency-Key",
    {"type": "string", "pattern": "^[ -~]{1,255}$"},
    "The first outcome under a key is kept for 24 h at least. The same request with it gets that outcome again, with "
    "`Idempotency-Replayed`; another one a 422. Keys are per workspace.",
    "report-2026-03",
)
_TRACEPARENT = header(
    "traceparent",
    {"type": "string"},
    "W3C trace context, passed on with the event; one that is malformed is left out.",
    "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
)
_REPLAYED: Json = {
    "Idempotency-Replayed": {
        "description": "This is the outcome of the first request with this key.",
        "schema": {"type": "string", "const": "true"},
    }
}
_LOCATION: Json = {
    "Location": {
        "description": "The path of the run, at the query service.",
        "required": True,
        "schema": {"type": "string", "pattern": f"^/v1/runs/run_{TYPEID_SUFFIX}$"},
    }
}


def command(body: type[Body], status: int, *errors: str) -> type[Operation]:
    """The description of a command; ``errors`` are those that others do not have."""
    creates_run = body is CreateRunBody
    event = {
        CreateRunBody: _CREATED, StartRunBody: _STARTED, CompleteRunBody: _COMPLETED, FailRunBody: _FAILED,
        CreateStepBody: _STEP,
    }[body]  # fmt: skip
    accepted = AcceptedBody(
        ok=True,
        run_id=event.run_id,
        step_id=event.step_id,
        event_id=event.event_id,
        room_id=event.room_id,
        stream_seq=event.stream_seq,
        correlation_id=event.correlation_id,
    )
    success = answer(
        "The event is committed",
        reference("StepAccepted" if body is CreateStepBody else "Accepted"),
        msgspec.to_builtins(accepted),
        headers=_LOCATION | _REPLAYED if creates_run else _REPLAYED,
    )
    return described(
        answers={status: success},
        errors=(*errors, *_ALWAYS, *(() if creates_run else _ON_A_RUN)),
        parameters=(*(() if creates_run else (_RUN_ID,)), _KEY, _TRACEPARENT),
        body={
            "required": body in _REQUIRED,
            "description": "JSON in UTF-8 of at most 1 MiB and 200 levels; a member that is null counts as absent."
            + ("" if body in _REQUIRED else " No body is `{}`."),
            "content": {
                "application/json": {
                    "schema": reference(body.__name__.removesuffix("Body")),
                    "examples": {"example": {"value": _example(body)}},
                }
            },
        },
    )


def _example(body: type[Body]) -> Json:
    return {name: value for name, value in _EXAMPLES[body].items() if name in body.__struct_fields__}


def _schemas() -> dict[str, Json]:
    schemas: dict[str, Json] = {}
    for body in _EXAMPLES:
        schema: dict[str, Any] = schemas_of(body)[body.__name__]
        name = body.__name__.removesuffix("Body")
        schema = {**schema, "title": name}
        schema.pop("description", None)
        for member in schema["properties"].values():
            member.pop("default", None)  # null: absent, which says nothing
        required = _REQUIRED.get(body)
        if required is not None:
            schema["properties"][required] = schema["properties"][required]["anyOf"][0]
        schemas[name] = {**schema, "required": [required] if required else []}
    accepted: Json = schemas_of(AcceptedBody)["AcceptedBody"] | {"title": "Accepted"}
    step_id = accepted["properties"].pop("step_id")["anyOf"][0]
    step: Json = {
        **accepted,
        "title": "StepAccepted",
        "properties": {**accepted["properties"], "step_id": step_id},
        "required": [*accepted["required"], "step_id"],
    }
    return {**schemas, "Accepted": accepted, "StepAccepted": step}


def openapi() -> OpenAPIConfig:
    """The description of the service as a whole."""
    return openapi_config("Runroom commands", "Create runs, move them on, add steps.", _schemas())
