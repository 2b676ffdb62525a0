"""Bodies: what is taken, and what is refused by which name."""

import hashlib
import sys
from typing import Any

import pytest
from msgspec import Raw

from services.command.domain.commands import CreateRun, held_bytes
from services.command.http.bodies import (
    TURN_BYTES,
    CreateRunBody,
    CreateStepBody,
    body_decoder,
    fingerprinted,
    to_create_run,
    to_create_step,
    turn_of,
)
from services.command.http.numbers import MAX_LONG_EXPONENTS
from shared.contracts.forms import MAX_DEPTH
from shared.http.problems import Problem

decode = body_decoder(CreateRunBody)


LARGEST = int(sys.float_info.max)


def nested(depth: int) -> bytes:
    """A body whose ``input`` is ``depth`` objects deep; the body itself is one more."""
    return b'{"room_id":"r","input":' + b'{"a":' * (depth - 1) + b"{}" + b"}" * depth


@pytest.mark.parametrize(
    ("raw", "detail"),
    [
        (b'{"room_id":1}', "room_id: expected"),
        (b'{"room_id":"r","input":[]}', "input: expected"),
        (b'{"room_id":"r","tags":["a",1]}', "tags[1]: expected"),
        (b'{"room_id":"r","tags":"a"}', "tags: expected"),
        (b'{"room_id":"r","zeta":1,"alpha":2}', "unknown members: alpha, zeta"),
        (b"[]", "body: expected"),
        (b"{", "body: not valid JSON"),
        (b'{"room_id":"r"} x', "body: not valid JSON"),
        (b'{"room_id":"\xff"}', "body: not valid UTF-8"),
        *[
            ('{"room_id":"r","title":"é"}'.encode(encoding), "body: expected UTF-8, without a byte order mark")
            for encoding in ("utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be")
        ],
        (b'{"room_id":"r","title":"\\ud800"}', "lone surrogate"),
        (b'{"room_id":"r","title":"a\\u0000"}', "title: a string holds NUL"),
        (b'{"room_id":"r","input":{"a":["\\u0000"]}}', "input: a string holds NUL"),
        (b'{"room_id":"r","input":{"\\u0000":1}}', "input: a string holds NUL"),
        (b'{"room_id":"r","input":{"a":"\\\\\\u0000"}}', "input: a string holds NUL"),
        (b'{"room_id":"r","tags":["\\u0000"]}', "tags: a string holds NUL"),
        (b'{"room_id":"r","input":{"a":1e999}}', "input[...]: number out of range"),
        (b'{"room_id":"r","input":{"a":' + b"9" * 5000 + b"}}", "input[...]: integer value out of range"),
        (b'{"room_id":"r","input":{"a":' + b"9" * 310 + b"}}", "input: an integer is out of range"),
        (b'{"room_id":"r","input":{"a":["b",[-' + b"9" * 4000 + b"]]}}", "input: an integer is out of range"),
        (b'{"room_id":"r","input":{"a":%d}}' % (LARGEST + 1), "input: an integer is out of range"),
        (b'{"room_id":"r","input":{"a":%d}}' % (-LARGEST - 1), "input: an integer is out of range"),
        (b'{"room_id":"r","input":{"a":NaN}}', "body: not valid JSON"),
        (nested(MAX_DEPTH), "nested deeper"),
        (nested(100_000), "nested deeper"),
    ],
)
def test_what_cannot_be_kept_is_refused_by_name(raw: bytes, detail: str) -> None:
    with pytest.raises(Problem) as raised:
        decode(raw)
    assert (raised.value.status, raised.value.error) == (400, "invalid_request")
    assert detail in raised.value.detail


def test_what_only_looks_dangerous_is_taken() -> None:
    body = decode(b'{"room_id":"r","title":"a \\\\u0000 is not a NUL","input":{"a":"' + b"[{" * 300 + b'"}}')
    assert body.title == "a \\u0000 is not a NUL"
    assert decode(nested(MAX_DEPTH - 1)).input is not None


@pytest.mark.parametrize("number", [LARGEST, -LARGEST, 10**307], ids=["largest", "least", "a power of ten"])
@pytest.mark.parametrize("before", range(0, 210, 10))
def test_integers_that_a_double_can_hold_are_kept_digit_for_digit(number: int, before: int) -> None:
    raw = b'{"room_id":"r","input":{"a":"' + b" " * before + b'","b":%d}}' % number
    kept = decode(raw).input
    assert kept is not None
    assert kept["b"] == number
    with pytest.raises(Problem):
        decode(raw.replace(b"%d" % number, b"%d" % (number * 100)))


def test_many_digits_that_are_no_integer_are_taken() -> None:
    digits = b"7" * 400
    body = decode(b'{"room_id":"r","title":"%b","input":{"%b":["%b",0.%b]}}' % (digits, digits, digits, digits))
    assert body.title == digits.decode()


def test_an_empty_body_is_an_empty_object() -> None:
    assert decode(b"") == decode(b"{}") == CreateRunBody()


@pytest.mark.parametrize(
    ("members", "error", "detail"),
    [
        ({"room_id": None}, "missing_room_id", "room_id"),
        ({"room_id": ""}, "missing_room_id", "room_id"),
        ({"room_id": "a.b"}, "invalid_request", "room_id"),
        ({"room_id": "a\n"}, "invalid_request", "room_id"),
        ({"room_id": "*"}, "invalid_request", "room_id"),
        ({"room_id": "r" * 129}, "invalid_request", "room_id"),
        ({"room_id": "ä"}, "invalid_request", "room_id"),
        ({"thread_id": ""}, "invalid_request", "thread_id"),
        ({"thread_id": "a b"}, "invalid_request", "thread_id"),
        ({"correlation_id": ""}, "invalid_request", "correlation_id"),
        ({"correlation_id": "a b"}, "invalid_request", "correlation_id"),
        ({"correlation_id": "c" * 129}, "invalid_request", "correlation_id"),
        ({"correlation_id": "\u00a0"}, "invalid_request", "correlation_id"),
        ({"causation_id": "not-an-event"}, "invalid_request", "causation_id"),
        ({"tags": ("",)}, "invalid_request", "tags[0]"),
        ({"tags": ("ok", "t" * 257)}, "invalid_request", "tags[1]"),
        ({"tags": ("t",) * 101}, "invalid_request", "tags"),
    ],
)
def test_members_out_of_form_are_named(members: dict[str, Any], error: str, detail: str) -> None:
    with pytest.raises(Problem) as raised:
        to_create_run(CreateRunBody(**{"room_id": "r", **members}))
    assert (raised.value.status, raised.value.error) == (400, error)
    assert raised.value.detail.startswith(detail)


def test_a_whole_body_becomes_a_command() -> None:
    raw = (
        b'{"room_id":"r","thread_id":"t","title":"T","goal":"G","input":{"a":[1,2.5,null]},"tags":["x"],'
        b'"correlation_id":"c/1","causation_id":"01a20913-7fd0-74d2-a2b2-2fbca737d637"}'
    )
    assert to_create_run(decode(raw)) == CreateRun(
        room_id="r",
        thread_id="t",
        title="T",
        goal="G",
        input=Raw(b'{"a":[1,2.5,null]}'),
        tags=("x",),
        correlation_id="c/1",
        causation_id="01a20913-7fd0-74d2-a2b2-2fbca737d637",
    )


WHOLE = (
    b'{"room_id":"r","title":"T","goal":"\\u00e9\\/\\n","tags":["x"],'
    b'"input":{"z":[1e15,1e300,-0.0,18446744073709551616,[]],"a":{"c":"\xf0\x9f\x98\x80","b":null},"a":{"c":true,"b":"\\u007f"}}}'
)


def test_an_object_is_held_as_its_event_will_have_it() -> None:
    held = to_create_run(decode(WHOLE)).input
    assert held is not None
    assert bytes(held) == (b'{"z":[1000000000000000.0,1e300,-0.0,18446744073709551616,[]],"a":{"c":true,"b":"\x7f"}}')


@pytest.mark.parametrize("raw", [WHOLE, WHOLE.replace(b'"c":true,"b":"\\u007f"', b'"b" : "\x7f", "c" : true')])
def test_a_fingerprint_is_that_of_earlier_releases(raw: bytes) -> None:
    body = decode(raw)
    digest = hashlib.sha256(fingerprinted(to_create_run(body), body)).hexdigest()
    assert digest == "f3ed192b6aa736ea406ad457aafae82cafb05d5343ec0d152b67c746c6af4e02"


def test_what_a_command_takes_is_counted() -> None:
    def held(raw: bytes) -> int:
        return held_bytes(to_create_run(decode(raw)))

    assert 40_000 < held(numbers("9e9", 4000)) < 60_000, "written out, not as it was sent"
    assert 400_000 < held('{"room_id":"r","title":"😀%s"}'.replace("%s", "x" * 100_000).encode()) < 401_000
    assert 400_000 < held(b'{"room_id":"r","title":"\\ud83d\\ude00%b"}' % (b"x" * 100_000)) < 401_000
    assert 200_000 < held(b'{"room_id":"r","input":{"a":[%b0]}}' % (b"[]," * 70_000)) < 220_000
    assert 25_000 < held(b'{"room_id":"r","tags":[%b]}' % b",".join([b'"%b"' % (b"x" * 256)] * 100)) < 35_000


def test_large_bodies_take_turns_and_those_that_are_slow_to_read() -> None:
    assert turn_of(b'{"room_id":"r","input":{"text":"%b"}}' % (b"7e1000 " * 100)) == 0
    assert turn_of(numbers("1", 1500)) == 0
    assert turn_of(numbers("1", 15_000)) > 30_000
    assert turn_of(numbers("1e300", 200)) > TURN_BYTES / 2
    assert turn_of(numbers("1E-300", 200)) > TURN_BYTES / 2


def test_a_few_unknown_members_are_named_and_none_at_length() -> None:
    names = [f"{number:03}{'n' * 1000}" for number in range(300)]
    with pytest.raises(Problem) as raised:
        decode(b"{%b}" % b",".join(b'"%b":[[]]' % name.encode() for name in reversed(names)))
    detail = raised.value.detail
    assert detail.startswith(f"unknown members: {names[0][:64]}…, {names[1][:64]}…, ")
    assert detail.endswith(f"{names[19][:64]}… and 280 more")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b"\\ud83d", "lone surrogate"),
        (b"\\ud83d\\n", "lone surrogate"),
        (b"\\ude00", "lone surrogate"),
        (b"\\ud83d\\ud83d", "lone surrogate"),
        (b"\\ud8zz", "not valid JSON"),
        (b'\\ud83d\\ude00" "', "not valid JSON"),
    ],
)
def test_what_is_wrong_with_a_string_is_said_without_reading_it_again(text: bytes, reason: str) -> None:
    with pytest.raises(Problem) as raised:
        decode(b'{"room_id":"r","title":"%b","goal":"\\ud83d\\ude00"}' % text)
    assert reason in raised.value.detail


@pytest.mark.parametrize("kind", [None, ""])
def test_a_step_needs_a_kind(kind: str | None) -> None:
    with pytest.raises(Problem) as raised:
        to_create_step("run_1", CreateStepBody(kind=kind))
    assert raised.value.error == "missing_kind"


def numbers(token: str, count: int) -> bytes:
    return b'{"room_id":"r","input":{"a":[' + b",".join([token.encode()] * count) + b"]}}"


@pytest.mark.parametrize("token", ["1e300", "1E+100", "-1.5e-320", "1e0000000300", "5e100"])
def test_numbers_that_take_long_to_read_are_few(token: str) -> None:
    assert decode(numbers(token, MAX_LONG_EXPONENTS)).input is not None
    with pytest.raises(Problem) as raised:
        decode(numbers(token, MAX_LONG_EXPONENTS + 1))
    assert (raised.value.error, raised.value.detail.startswith("body: more than 5000 numbers")) == (
        "invalid_request",
        True,
    )


@pytest.mark.parametrize("token", ["1e99", "12345678901", "0.123", '"1e300"', '"a\\"1e300"', '"7e1001e2001e300"'])
def test_what_is_quick_to_read_may_be_many(token: str) -> None:
    assert decode(numbers(token, 50_000)).input is not None
