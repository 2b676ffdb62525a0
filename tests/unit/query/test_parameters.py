"""Query strings as they are written, and what they cost."""

from typing import Any, cast
from urllib.parse import parse_qsl

import pytest

from services.query.http.parameters import Parameters
from shared.http.problems import Problem
from tests.support.work import counted


class Asking:
    def __init__(self, query: bytes) -> None:
        self.scope = {"query_string": query}


def parameters(query: bytes) -> Parameters:
    return Parameters(cast("Any", Asking(query)))


@pytest.mark.parametrize(
    "query",
    [
        b"tag=a",
        b"tag=a&tag=b",
        b"tag=&tag",
        b"&&tag=a&&=b&",
        b"tag=a+b%20c%2Bd",
        b"tag=%41%6a%6A",
        b"%74%61g=a",
        b"tag=a=b==c",
        b"tag=%3D%3d=%0D%0A==%0a",
        b"tag=100%&tag=%zz&tag=%%41&tag=%4&tag=%&tag==%",
        b"tag=%C3%A9\xc3\xa9",
        b"tag=a;b&tag=_%5F ",
        b"tag=%00",
        b"tag=" + b"%E6%97%A5" * 3_000,
        b"tag=" + b"%C3%A9a" * 4_000 + b"&tag=b",
    ],
)
def test_a_query_string_is_read_as_forms_are_written(query: bytes) -> None:
    pairs = parse_qsl(query.decode(), keep_blank_values=True, errors="strict")
    expected: dict[str, list[str]] = {}
    for name, value in pairs:
        expected.setdefault(name, []).append(value)
    assert parameters(query)._values == expected  # pyright: ignore[reportPrivateUsage]


@pytest.mark.parametrize("query", [b"tag=%ff", b"tag=\xff", b"%c3=a", b"tag=\xc3%a9", b"tag=%C3&tag=%A9"])
def test_what_is_not_utf_8_is_refused(query: bytes) -> None:
    with pytest.raises(Problem) as raised:
        parameters(query)
    assert (raised.value.status, raised.value.detail) == (400, "query: not UTF-8")


@pytest.mark.parametrize(
    "query",
    [b"tag=" + b"%41" * 10_000, b"tag=" + b"a%41" * 8_000, b"tag=" + b"%" * 32_000, b"&".join([b"%41" * 50] * 200)],
)
def test_it_costs_little_however_it_is_written(query: bytes) -> None:
    with counted() as calls:
        try:
            parameters(query)
        except Problem as problem:
            assert problem.detail == "query: more than 100 % that encode nothing"  # noqa: PT017
    assert calls.count < 6_000
