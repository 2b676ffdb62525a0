"""Where a request's token is: the header ``Authorization`` (RFC 6750, section 2.1), or the session cookie.

Invariant: there is one place a token is taken from, and it is never the URL. Where a header is sent it decides, good or
not; what is sent more than once is not chosen from.
"""

from collections.abc import Iterator
from typing import Final

from litestar.types import Scope

COOKIE: Final = "__Host-runroom"
"""The prefix has browsers see to it that nobody else's page or host sets it."""
_COOKIE: Final = COOKIE.encode()
_MOST_LOOKED_AT: Final = 100
"""Cookies that have its name in theirs, or in what they say."""


class MalformedCredentialsError(ValueError):
    """A token is meant to be there. The message says what is wrong, without quoting it."""


def bearer_token(scope: Scope) -> bytes | None:
    """The token in the header; None when it has none, or credentials of another scheme.

    Raises ``MalformedCredentialsError``.
    """
    sent = [value for name, value in scope["headers"] if name == b"authorization"]
    if not sent:
        return None
    if len(sent) > 1:
        raise MalformedCredentialsError("Authorization: sent more than once")
    scheme, _, token = sent[0].partition(b" ")
    if scheme.lower() != b"bearer":
        return None
    token = token.strip(b" ")
    if not token or b" " in token:
        raise MalformedCredentialsError("Authorization: expected one token after Bearer")
    return token


def request_token(scope: Scope, *, takes_cookie: bool) -> bytes | None:
    """The token of a request that may also show it in the cookie. Raises ``MalformedCredentialsError``."""
    if not takes_cookie or any(name == b"authorization" for name, _ in scope["headers"]):
        return bearer_token(scope)
    cookies = [value for name, value in scope["headers"] if name == b"cookie"]
    token: bytes | None = None
    for pair in _pairs_with_the_name(b";".join(cookies)) if cookies else ():
        key, _, text = pair.partition(b"=")
        if key.strip() == _COOKIE:
            if token is not None:
                raise MalformedCredentialsError(f"Cookie: {COOKIE} is sent more than once")
            token = text.strip()
    return token


def _pairs_with_the_name(cookies: bytes) -> Iterator[bytes]:
    """Those among them that have the cookie's name anywhere. Other sites' are not taken apart: there may be thousands,
    and nobody needs a token to send them. Raises ``MalformedCredentialsError``."""
    end = looked_at = 0
    while (at := cookies.find(_COOKIE, end)) >= 0:
        if looked_at > _MOST_LOOKED_AT:
            raise MalformedCredentialsError(f"Cookie: {COOKIE} is in more than {_MOST_LOOKED_AT} others")
        looked_at += 1
        begin = cookies.rfind(b";", end, at) + 1 or end
        end = cookies.find(b";", at)
        if end < 0:
            end = len(cookies)
        yield cookies[begin:end]
