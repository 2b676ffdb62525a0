"""Request bodies: decoded strictly, checked for everything the event store could not hold, turned into commands.

Invariant: what leaves here can be committed, published and projected. Whatever is wrong with a body is a 400
``Problem`` that names the member and says why.
"""

import json
import re
from collections.abc import Callable, Iterable
from typing import Annotated, Final, TypeVar

import msgspec
from msgspec import Meta, Raw, Struct
from msgspec.structs import replace

from services.command.domain.commands import Command, CompleteRun, CreateRun, CreateStep, FailRun, StartRun
from services.command.http.numbers import (
    check_numbers,
    has_huge_integers,
    may_have_huge_integers,
)
from services.command.http.outline import is_deeper
from shared.contracts.forms import MAX_DEPTH, MAX_TAG, MAX_TAGS, CorrelationId, EventId, JsonObject, Tags, Text, Token
from shared.contracts.ids import is_correlation_id, is_event_id, is_token
from shared.contracts.numbers import count_long_exponents
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
TURN_BYTES: Final = 64 * 1024
"""Of bodies that are read in one turn of the loop: 8 ms whatever they are made of."""
_LITTLE: Final = 4096
_FEWEST_BYTES: Final = 1024
_EXPONENT: Final = 256
"""A number with a long exponent takes as long to read as so many bytes."""

_encoder = msgspec.json.Encoder()
_sorted_encoder = msgspec.json.Encoder(order="sorted")

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


def turn_of(raw: bytes) -> int:
    """How much of a turn it takes to read a body, in bytes; 0 for one that is read at once."""
    if len(raw) <= _FEWEST_BYTES:
        return 0
    work = len(raw) if len(raw) >= TURN_BYTES else len(raw) + _EXPONENT * count_long_exponents(raw)
    return work if work > _LITTLE else 0


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
        input=_encoded(body.input),
        tags=body.tags,
        correlation_id=body.correlation_id,
        causation_id=body.causation_id,
    )


def to_start_run(run_id: str, _: StartRunBody) -> StartRun:
    return StartRun(run_id=run_id)


def to_complete_run(run_id: str, body: CompleteRunBody) -> CompleteRun:
    return CompleteRun(run_id=run_id, summary=body.summary, output=_encoded(body.output))


def to_fail_run(run_id: str, body: FailRunBody) -> FailRun:
    return FailRun(run_id=run_id, message=body.message, error=_encoded(body.error))


def to_create_step(run_id: str, body: CreateStepBody) -> CreateStep:
    if not body.kind:
        raise Problem(400, "missing_kind", "kind: required, what sort of step this is")
    return CreateStep(run_id=run_id, kind=body.kind, title=body.title, input=_encoded(body.input))


def fingerprinted(command: Command, body: Body) -> bytes:
    """What the fingerprint is made of: the same for the same command, whatever order its members came in."""
    free = {
        member: Raw(_sorted_encoder.encode(value))
        for member in body.__struct_fields__
        if isinstance(value := getattr(body, member), dict)
    }
    return _sorted_encoder.encode(replace(command, **free))


def _encoded(value: JsonObject | None) -> Raw | None:
    return None if value is None else Raw(_encoder.encode(value))


def _check_token(member: str, value: str | None) -> None:
    if value is not None and not is_token(value):
        raise invalid_request(f"{member}: expected 1-128 of A-Z a-z 0-9 _ -")


_AT = re.compile(r"^(?P<reason>.*) - at `\$\.?(?P<path>[^`]*)`$")
_MOST_NAMED: Final = 20
_LONGEST_NAME: Final = 64
_LONE_SURROGATE: Final = re.compile(rb"\\u[dD][89abAB]..(?!\\u[dD][c-fC-F])", re.DOTALL)


def _explain(message: str, raw: bytes, members: set[str]) -> str:
    """The library's message with the member first; unknown members by name."""
    if "unknown field" in message:
        try:
            given = msgspec.json.decode(raw, type=dict[str, Raw])
        except RecursionError as error:
            raise _too_deep() from error
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            # Only the body up to the member has been looked at; what follows is worse.
            return _explain_malformed(raw, error)
        return f"unknown members: {_named(given.keys() - members)}"
    if match := _AT.match(message):
        return f"{match['path']}: {match['reason'][0].lower()}{match['reason'][1:]}"
    return f"body: {message[0].lower()}{message[1:]}"


def _named(members: Iterable[str]) -> str:
    names = sorted(members)
    named = [name if len(name) <= _LONGEST_NAME else f"{name[:_LONGEST_NAME]}…" for name in names[:_MOST_NAMED]]
    more = len(names) - len(named)
    return ", ".join(named) + (f" and {more} more" if more else "")


def _explain_malformed(raw: bytes, error: Exception) -> str:
    if json.detect_encoding(raw) != "utf-8":
        return "body: expected UTF-8, without a byte order mark"
    if isinstance(error, UnicodeDecodeError):
        return "body: not valid UTF-8"
    message = str(error)
    # Of one without its second half the decoder says that the text is truncated.
    if "surrogate" in message or ("truncated" in message and _LONE_SURROGATE.search(raw.replace(b"\\\\", b""))):
        return "body: a string holds a lone surrogate, which no UTF-8 text can"
    return f"body: not valid JSON ({message.removeprefix('JSON is malformed: ')})"


def _too_deep() -> Problem:
    return invalid_request(f"body: nested deeper than {MAX_DEPTH} levels")


def _check_storable(raw: bytes, body: Body) -> None:
    """PostgreSQL has no NUL in text, and a bounded stack for nesting; readers may have no integers but doubles.

    Looks closer only where the bytes give cause.
    """
    if is_deeper(raw, MAX_DEPTH):
        raise _too_deep()
    if b"\\u0000" in raw:
        _check_members(body, _has_nul, "a string holds NUL (\\u0000), which cannot be stored")
    if may_have_huge_integers(raw):
        _check_members(body, has_huge_integers, "an integer is out of range, larger than any IEEE 754 double")


def _check_members(body: Body, is_bad: Callable[[bytes], bool], reason: str) -> None:
    for member in body.__struct_fields__:
        if is_bad(_encoder.encode(getattr(body, member))):
            raise invalid_request(f"{member}: {reason}")


def _has_nul(encoded: bytes) -> bool:
    """Not if it is a backslash, which is written as two, and then u0000."""
    return b"\\u0000" in encoded.replace(b"\\\\", b"")
