"""The forms of members, as the published schemas say them.

Invariant: a form here describes and never checks: it changes nothing about what is decoded, nor how fast. The checks
are where values come in, by the rules of ``shared.contracts.ids``.
"""

from typing import Annotated, Any

from msgspec import Meta

from shared.contracts.ids import CORRELATION_ID_MAX

MAX_TAGS = 100
MAX_TAG = 256
"""Characters. PostgreSQL indexes tags, and its index entries are bounded."""
MAX_DEPTH = 200
"""Deepest nesting of arrays and objects in a body, the body itself included."""

TOKEN_PATTERN = "^[A-Za-z0-9_-]{1,128}$"  # noqa: S105  # no secret
TYPEID_SUFFIX = "[0-7][0-9a-hjkmnp-tv-z]{25}"
TIME_PATTERN = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{6}Z$"
UUID_PATTERN = "^[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}$"
NO_NUL = r"^[^\u0000]*$"

Token = Annotated[
    str,
    Meta(description="1-128 of A-Z a-z 0-9 _ -.", extra_json_schema={"pattern": TOKEN_PATTERN}),
]
RunId = Annotated[str, Meta(description="TypeID of a run.", extra_json_schema={"pattern": f"^run_{TYPEID_SUFFIX}$"})]
StepId = Annotated[str, Meta(description="TypeID of a step.", extra_json_schema={"pattern": f"^step_{TYPEID_SUFFIX}$"})]
EventId = Annotated[
    str, Meta(description="UUID of an event.", extra_json_schema={"format": "uuid", "pattern": UUID_PATTERN})
]
Time = Annotated[
    str,
    Meta(
        description="RFC 3339, UTC, microseconds, Z.",
        extra_json_schema={"format": "date-time", "pattern": TIME_PATTERN},
    ),
]
StreamSeq = Annotated[int, Meta(description="1, 2, 3, … per room, without gaps.", extra_json_schema={"minimum": 1})]
CorrelationId = Annotated[
    str,
    Meta(
        description="1-128 printable characters without white space; the same on every event of a run.",
        extra_json_schema={"minLength": 1, "maxLength": CORRELATION_ID_MAX, "pattern": r"^[^\s]+$"},
    ),
]
Text = Annotated[str, Meta(description="Any text without NUL.", extra_json_schema={"pattern": NO_NUL})]
Tags = Annotated[
    tuple[Annotated[str, Meta(extra_json_schema={"minLength": 1, "maxLength": MAX_TAG, "pattern": NO_NUL})], ...],
    Meta(extra_json_schema={"maxItems": MAX_TAGS}),
]
JsonObject = Annotated[
    dict[str, Any],
    Meta(
        description="Any JSON object: no NUL in strings or names, numbers that an IEEE 754 double can hold, and with "
        f"the body around it at most {MAX_DEPTH} levels of nesting."
    ),
]
