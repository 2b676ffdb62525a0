"""What a request's head may be, and what one that is on its way counts for."""

import re
from functools import lru_cache
from typing import Final

import httptools

from shared.http.problems import Problem

MAX_HEAD_BYTES: Final = 64 * 1024
"""Request line and header fields."""
MAX_URI_BYTES: Final = 32 * 1024
MAX_ESCAPED_PATH_BYTES: Final = 2048
"""Of the URI, what is before the query, if any of it is escaped: it is decoded as it is read, before its turn."""
MAX_HEADERS: Final = 100
MOST_ARRIVING_BYTES: Final = 16 * 1024 * 1024
"""Of heads that have yet to come whole, in a process."""
_FIELD_BYTES: Final = 150
"""Of objects, whatever is in it."""
_UNCOUNTED_BYTES: Final = 4096
"""Of each head on its way: some 20 fields."""
MAX_HOST_BYTES: Final = 261
"""A name as DNS has them (RFC 3986, section 3.2.2), and a port."""
_HOST: Final = re.compile(  # RFC 3986, section 3.2, in lower case
    rb"(?:\[[0-9a-f:.]+\]|[a-z0-9._~!$&'()*+,;=%-]*)(?::[0-9]*)?"
)
_is_plain_path: Final = re.compile(rb"/[!-~]*").fullmatch
Fields = list[tuple[bytes, bytes]]
"""Names in lower case."""


@lru_cache(maxsize=64)
def is_host(value: bytes) -> bool:
    return _HOST.fullmatch(value) is not None


def is_target(target: bytes) -> bool:
    """Whether the server can take a request's target apart. By itself it finds out when it is too late to tell which of
    two requests on a connection is wrong."""
    if _is_plain_path(target):
        return True
    try:
        path = httptools.parse_url(target).path or b""  # typed as always there
    except httptools.HttpParserError:
        return False
    return path != b"" and path.isascii()


def size_of(url: bytes, fields: Fields) -> int:
    """About the bytes that were sent of them."""
    return len(url) + sum(len(name) + len(value) + 4 for name, value in fields)


def counted_while_it_comes(sent: int, fields: int) -> int:
    """Bytes held of a head that is not whole, of which so many bytes were sent and so many fields read; 0 of one that
    is not counted."""
    held = sent + fields * _FIELD_BYTES
    return held if held > _UNCOUNTED_BYTES else 0


def counted_while_it_waits(sent: int, fields: int) -> int:
    """As above, of a head that is whole: what an ordinary one has beyond that, in a herd of thousands, is little."""
    return max(0, sent + fields * _FIELD_BYTES - _UNCOUNTED_BYTES)


def without_upgrade(method: bytes, url: bytes, version: str, fields: Fields, *, ends: bool) -> bytes:
    """The head of a request as if it had not asked for another protocol: nobody has to grant that (RFC 9110, 7.8).

    ``ends``: the connection ends with it.
    """
    kept = [b"%b: %b\r\n" % field for field in fields if field[0] not in (b"upgrade", b"connection")]
    if ends:
        kept.append(b"connection: close\r\n")
    return b"%b %b HTTP/%b\r\n%b\r\n" % (method, url, version.encode(), b"".join(kept))


def uri_too_long(url: bytes) -> Problem | None:
    """None for one that is not."""
    if len(url) > MAX_URI_BYTES:
        return Problem(414, "uri_too_long", f"the URI is longer than {MAX_URI_BYTES} bytes")
    path, _, _ = url.partition(b"?")
    if len(path) > MAX_ESCAPED_PATH_BYTES and b"%" in path:
        detail = f"the URI's path has escapes, and is longer than {MAX_ESCAPED_PATH_BYTES} bytes"
        return Problem(414, "uri_too_long", detail)
    return None


def headers_too_large() -> Problem:
    detail = f"the headers are larger than {MAX_HEAD_BYTES} bytes or more than {MAX_HEADERS}"
    return Problem(431, "headers_too_large", detail)


def too_many_heads() -> Problem:
    detail = "too many requests' headers are on their way, and these take long"
    return Problem(503, "overloaded", detail, retry_after=1)
