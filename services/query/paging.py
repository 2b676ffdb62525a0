"""Page cursors: opaque to clients, a position on immutable keys to us.

Invariant: a cursor only continues the very list it came from. It carries a fingerprint of the workspace and the
filters; under any other it is refused, so that a page can never quietly belong to a different list.
"""

import base64
import binascii
import hashlib
import struct
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import msgspec

from shared.contracts.ids import is_token

_FINGERPRINT = 9
_NUMBER = struct.Struct(">q")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


class PageCursorError(ValueError):
    """The text is no cursor, or not one of this list."""


class RunPosition(NamedTuple):
    """Newest first: the page goes on with what was created before this run."""

    created_at: datetime
    run_id: str


def fingerprint(*parts: object) -> bytes:
    """A short digest of what a list is of. ``parts`` are anything JSON can write."""
    return hashlib.blake2b(msgspec.json.encode(parts), digest_size=_FINGERPRINT).digest()


def write_run_cursor(mark: bytes, position: RunPosition) -> str:
    moment = (position.created_at - _EPOCH) // _MICROSECOND
    return _encode(mark + _NUMBER.pack(moment) + position.run_id.encode())


def read_run_cursor(mark: bytes, text: str) -> RunPosition:
    """The position in a list of runs with this fingerprint. Raises ``PageCursorError``."""
    number, rest = _decode(mark, text)
    run_id = rest.decode("ascii", "replace")
    if not is_token(run_id):
        raise PageCursorError("not a cursor of this list")
    try:
        return RunPosition(_EPOCH + number * _MICROSECOND, run_id)
    except OverflowError:
        raise PageCursorError("not a cursor of this list") from None


def write_step_cursor(mark: bytes, stream_seq: int) -> str:
    return _encode(mark + _NUMBER.pack(stream_seq))


def read_step_cursor(mark: bytes, text: str) -> int:
    """The position in a list of steps with this fingerprint. Raises ``PageCursorError``."""
    number, rest = _decode(mark, text)
    if rest or number < 0:
        raise PageCursorError("not a cursor of this list")
    return number


def _encode(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


def _decode(mark: bytes, text: str) -> tuple[int, bytes]:
    try:
        content = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        own, number = content[:_FINGERPRINT], _NUMBER.unpack_from(content, _FINGERPRINT)[0]
    except (binascii.Error, ValueError, struct.error):
        raise PageCursorError("not a cursor") from None
    if own != mark:
        raise PageCursorError("a cursor of another list: filters and workspace must stay as they were")
    return int(number), content[_FINGERPRINT + _NUMBER.size :]
