"""Where a request's token is taken from, and that other sites' cookies are not taken apart for it."""

from typing import Any, cast

import pytest
from litestar.types import Scope

from shared.http.auth.credentials import COOKIE, MalformedCredentialsError, request_token
from tests.support.work import counted

NAME = COOKIE.encode()
MOST_CALLS = 2_000


def scope(*cookies: bytes) -> Scope:
    fields = [(b"host", b"h"), *((b"cookie", cookie) for cookie in cookies)]
    return cast("Any", {"type": "http", "headers": fields})


@pytest.mark.parametrize(
    ("cookies", "token"),
    [
        ((), None),
        ((b"",), None),
        ((NAME + b"=t",), b"t"),
        ((b"a=b; " + NAME + b"=t; c=d",), b"t"),
        ((b"a=b", NAME + b"=t"), b"t"),
        ((b"a=b;\t " + NAME + b" = t ;c",), b"t"),
        ((NAME + b"=",), b""),
        ((NAME,), b""),
        ((NAME + b"=t=u",), b"t=u"),
        ((NAME + b"=" + NAME,), NAME),
        ((NAME + b"2=t",), None),
        ((b"a" + NAME + b"=t",), None),
        ((b"a " + NAME + b"=t",), None),
        ((b"a=" + NAME + b"=u; " + NAME + b"=t",), b"t"),
        ((NAME.lower() + b"=t",), None),
        ((b"; ".join(b"_ga%d=%d" % (n, n) for n in range(4_000)) + b"; " + NAME + b"=t",), b"t"),
        ((NAME + b"=t" + b";" * 60_000,), b"t"),
    ],
)
def test_the_cookie_among_others(cookies: tuple[bytes, ...], token: bytes | None) -> None:
    assert request_token(scope(*cookies), takes_cookie=True) == token


@pytest.mark.parametrize(
    "cookies",
    [
        (NAME + b"=t; " + NAME + b"=t",),
        (NAME + b"=t", NAME + b"=u"),
        (NAME + b"=t;" + b"a=b;" * 10_000 + NAME,),
    ],
)
def test_twice_it_is_not_chosen_from(cookies: tuple[bytes, ...]) -> None:
    with pytest.raises(MalformedCredentialsError, match="sent more than once"):
        request_token(scope(*cookies), takes_cookie=True)


@pytest.mark.parametrize("other", [b"a" + NAME + b";", NAME + b"2=a;", b"a " + NAME + b"=;"])
def test_it_is_looked_for_in_so_many_others(other: bytes) -> None:
    few = other * 90 + NAME + b"=t"
    assert request_token(scope(few), takes_cookie=True) == b"t"
    with counted() as calls, pytest.raises(MalformedCredentialsError, match="in more than 100 others"):
        request_token(scope(*[other * 1_000] * 3), takes_cookie=True)
    assert calls.count < MOST_CALLS


@pytest.mark.parametrize("others", [b";" * 60_000, b"a=b;" * 15_000, b"a;" * 30_000])
def test_others_cost_nothing(others: bytes) -> None:
    with counted() as calls:
        assert request_token(scope(others), takes_cookie=True) is None
        assert request_token(scope(others + NAME + b"=t"), takes_cookie=True) == b"t"
    assert calls.count < MOST_CALLS
