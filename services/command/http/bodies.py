"""Request bodies: decoded strictly, checked for everything the event store could not hold, turned into commands.

Invariant: what leaves here can be committed, published and projected. Whatever is wrong with a body is a 400
``Problem`` that names the member and says why.
"""

import json
import re
from collections.abc import Callable
from typing import Annotated, Any, TypeVar, cast

import msgspec
from msgspec import Meta, Struct

from services.command.domain.commands import CompleteRun, CreateRun, CreateStep, FailRun, StartRun
from services.command.http.numbers import check_numbers, is_huge, may_have_huge_integers
from shared.contracts.forms import MAX_DEPTH, MAX_TAG, MAX_TAGS, CorrelationId, EventId, JsonObject, Tags, Text, Token
from shared.contracts.ids import is_correlation_id, is_event_id, is_token
from shared.http.problems import Problem, invalid_request

Kind = Annotated[Text, Meta(description="What sort of step this is.", extra_json_schema={"minLength": 1})]


class CreateRunBody(Struct, frozen=True, forbid_unknown_fields=True):
    """``room_id`` is required; that it is there is checked after decoding, because it has an error code of its own."""

    room_id: Token | None = None
    thread_id: Token | None = None
    title: Text | None = None
    goal: Text | None = None
    input: JsonObject | None = None
    tags: Tags | None = None
    correlation_id: CorrelationId | None = None
    causation_id: EventId | None = None


class StartRunBody(Struct, frozen=True, forbid_unknown_fields=True):
    pass


class CompleteRunBody(Struct, frozen=True, forbid_unknown_fields=True):
    summary: Text | None = None
    output: JsonObject | None = None


class FailRunBody(Struct, frozen=True, forbid_unknown_fields=True):
    message: Text | None = None
    error: JsonObject | None = None


class CreateStepBody(Struct, frozen=True, forbid_unknown_fields=True):
    kind: Kind | None = None
    title: Text | None = None
    input: JsonObject | None = None


Body = CreateRunBody | StartRunBody | CompleteRunBody | FailRunBody | CreateStepBody
B = TypeVar("B", CreateRunBody, StartRunBody, CompleteRunBody, FailRunBody, CreateStepBody)


def body_decoder(cls: type[B]) -> Callable[[bytes], B]:
    """A function that decodes and checks a body of the class. An empty body is ``{}``."""
    decoder = msgspec.json.Decoder(cls)
    members = set(cls.__struct_fields__)

    def decode(raw: bytes) -> B:
        if not raw:
            raw = b"{}"
        check_numbers(raw)
        try:
            body = decoder.decode(raw)
        except msgspec.ValidationError as error:
            raise invalid_request(_explain(str(error), raw, members)) from error
        except RecursionError as error:
            raise _too_deep() from error
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise invalid_request(_explain_malformed(raw, error)) from error
        _check_storable(raw, body)
        return body

    return decode


def to_create_run(body: CreateRunBody) -> CreateRun:
    if not body.room_id:
        raise Problem(400, "missing_room_id", "room_id: required, 1-128 of A-Z a-z 0-9 _ -")
    _check_token("room_id", body.room_id)
    _check_token("thread_id", body.thread_id)
    if body.correlation_id is not None and not is_correlation_id(body.correlation_id):
        raise invalid_request("correlation_id: expected 1-128 printable characters without white space")
    if body.causation_id is not None and not is_event_id(body.causation_id):
        raise invalid_request("causation_id: expected an event id (a UUID)")
    tags = body.tags or ()
    if len(tags) > MAX_TAGS:
        raise invalid_request(f"tags: at most {MAX_TAGS}")
    for number, tag in enumerate(tags):
        if not 0 < len(tag) <= MAX_TAG:
            raise invalid_request(f"tags[{number}]: expected 1-{MAX_TAG} characters")
    return CreateRun(
        room_id=body.room_id,
        thread_id=body.thread_id,
        title=body.title,
        goal=body.goal,
        input=body.input,
        tags=body.tags,
        correlation_id=body.correlation_id,
        causation_id=body.causation_id,
    )


def to_start_run(run_id: str, _: StartRunBody) -> StartRun:
    return StartRun(run_id=run_id)


def to_complete_run(run_id: str, body: CompleteRunBody) -> CompleteRun:
    return CompleteRun(run_id=run_id, summary=body.summary, output=body.output)


def to_fail_run(run_id: str, body: FailRunBody) -> FailRun:
    return FailRun(run_id=run_id, message=body.message, error=body.error)


def to_create_step(run_id: str, body: CreateStepBody) -> CreateStep:
    if not body.kind:
        raise Problem(400, "missing_kind", "kind: required, what sort of step this is")
    return CreateStep(run_id=run_id, kind=body.kind, title=body.title, input=body.input)


def _check_token(member: str, value: str | None) -> None:
    if value is not None and not is_token(value):
        raise invalid_request(f"{member}: expected 1-128 of A-Z a-z 0-9 _ -")


_AT = re.compile(r"^(?P<reason>.*) - at `\$\.?(?P<path>[^`]*)`$")


def _explain(message: str, raw: bytes, members: set[str]) -> str:
    """The library's message with the member first; every unknown member by name."""
    if "unknown field" in message:
        try:
            given: Any = msgspec.json.decode(raw)
        except RecursionError as error:
            raise _too_deep() from error
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            # Only the body up to the member has been looked at; what follows is worse.
            return _explain_malformed(raw, error)
        return f"unknown members: {', '.join(sorted(set(given) - members))}"
    if match := _AT.match(message):
        return f"{match['path']}: {match['reason'][0].lower()}{match['reason'][1:]}"
    return f"body: {message[0].lower()}{message[1:]}"


def _explain_malformed(raw: bytes, error: Exception) -> str:
    if json.detect_encoding(raw) != "utf-8":
        return "body: expected UTF-8, without a byte order mark"
    if isinstance(error, UnicodeDecodeError):
        return "body: not valid UTF-8"
    try:
        json.loads(raw, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        return f"body: not valid JSON ({str(error).removeprefix('JSON is malformed: ')})"
    # Well-formed, and yet this decoder cannot take it: a surrogate without its other half, or a number out of range.
    if b"\\ud" in raw.lower():
        return "body: a string holds a lone surrogate, which no UTF-8 text can"
    return "body: a number is out of range"


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _too_deep() -> Problem:
    return invalid_request(f"body: nested deeper than {MAX_DEPTH} levels")


def _check_storable(raw: bytes, body: Body) -> None:
    """PostgreSQL has no NUL in text, and a bounded stack for nesting; readers may have no integers but doubles.

    Looks closer only where the bytes give cause.
    """
    maybe_nul = b"\\u0000" in raw
    maybe_deep = raw.count(b"{") + raw.count(b"[") > MAX_DEPTH
    if not (maybe_nul or maybe_deep or may_have_huge_integers(raw)):
        return
    # Depth-first, without recursion: (member's name at the top, value, depth).
    pending: list[tuple[str, Any, int]] = [(name, getattr(body, name), 1) for name in body.__struct_fields__]
    while pending:
        member, value, depth = pending.pop()
        if isinstance(value, str):
            if "\0" in value:
                raise invalid_request(f"{member}: a string holds NUL (\\u0000), which cannot be stored")
        elif isinstance(value, int):
            if is_huge(value):
                raise invalid_request(f"{member}: an integer is out of range, larger than any IEEE 754 double")
        elif isinstance(value, dict | list | tuple):
            if depth >= MAX_DEPTH:
                raise _too_deep()
            container = cast("dict[str, Any] | list[Any]", value)
            pending.extend((member, inner, depth + 1) for inner in container)
            if isinstance(container, dict):
                pending.extend((member, inner, depth + 1) for inner in container.values())
