"""Numbers that take long to read are read all the same, and as any others."""

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.contracts.numbers import count_long_exponents, read_float
from shared.contracts.upcasting import UndecodableEventError, registry

CREATED = json.loads((Path(__file__).parents[2] / "golden" / "run.created.v1.json").read_bytes())


def envelope(numbers: list[str]) -> bytes:
    event = CREATED | {"data": CREATED["data"] | {"input": {"a": ["HERE"]}}}
    return json.dumps(event).replace('"HERE"', ",".join(numbers)).encode()


def input_of(envelope: bytes) -> Any:
    return registry.decode(envelope).data.input  # pyright: ignore[reportAttributeAccessIssue]


NUMBERS = ["1e300", "-1.5E-300", "2.2250738585072011e-308", "4.9e-324", "1.7976931348623157e308", "1e-400", "-0.0", "7"]


def test_many_of_them_are_read_as_a_few_are() -> None:
    few, many = input_of(envelope(NUMBERS)), input_of(envelope(NUMBERS * 400))
    assert many == {"a": few["a"] * 400}
    assert [type(number) for number in many["a"]] == [type(number) for number in few["a"]] * 400


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_any_double_is_read_as_the_decoder_reads_it(number: float) -> None:
    written = msgspec.json.encode(number)
    assert msgspec.json.decode(written) == read_float(written.decode()) == number


@pytest.mark.parametrize("count", [1, 1000])
@pytest.mark.parametrize("number", ["1e309", "-1e999", "1e99999999999"])
def test_what_no_double_holds_is_refused_however_many_there_are(number: str, count: int) -> None:
    with pytest.raises(UndecodableEventError):
        registry.decode(envelope([*["1e300"] * count, number]))


def test_more_than_any_service_writes_are_not_read_at_all() -> None:
    a_body = ["1e100"] * (1024 * 1024 // len("1e100,"))
    assert len(input_of(envelope(a_body))["a"]) == len(a_body)
    with pytest.raises(UndecodableEventError, match="take too long to read"):
        registry.decode(envelope(a_body * 2))


@pytest.mark.parametrize("text", [b"1e99", b"[1e9,100]", b"12e-99", b'"e300"'])
def test_others_are_not_counted(text: bytes) -> None:
    assert count_long_exponents(text) == 0


def nested(size: int) -> bytes:
    small = b'{"":{"":{"":{"":1}}}},'
    return b"[" + (small * (size // len(small)))[:-1] + b"]"


def test_what_is_large_once_it_is_read_is_no_larger_than_a_body_can_make_it() -> None:
    text = json.dumps(CREATED | {"data": CREATED["data"] | {"input": {"a": "HERE"}}}).encode()
    assert registry.decode(text.replace(b'"HERE"', nested(1024 * 1024)))
    assert registry.decode(text.replace(b'"HERE"', b'"%b"' % (b"x" * 8 * 1024 * 1024)))
    with pytest.raises(UndecodableEventError, match="members and elements"):
        registry.decode(text.replace(b'"HERE"', nested(4 * 1024 * 1024)))
    with pytest.raises(UndecodableEventError, match="bytes are more than"):
        registry.decode(text.replace(b'"HERE"', b'"%b"' % (b"x" * 9 * 1024 * 1024)))
