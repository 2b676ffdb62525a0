"""Times as the contract writes them: RFC 3339, UTC, microseconds, ``Z``."""

from datetime import UTC, datetime

import msgspec

_encoder = msgspec.json.Encoder()


def format_time(moment: datetime) -> str:
    """The moment (with any time zone) as ``2026-01-31T12:00:00.000000Z``."""
    if moment.tzinfo is not UTC:
        moment = moment.astimezone(UTC)
    # Several times faster than isoformat, which counts where a page of runs is written; it leaves out a fraction of 0.
    text = _encoder.encode(moment)[1:-1].decode()
    return text if moment.microsecond else text[:-1] + ".000000Z"


def is_time(text: str) -> bool:
    """Whether the text is what ``format_time`` gives, and nothing else that somebody may take for a time. 0.3 µs."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return False
    return moment.tzinfo is UTC and format_time(moment) == text


def parse_time(text: str) -> datetime:
    """An RFC 3339 time with an offset as an aware UTC datetime. Raises ``ValueError`` for anything else."""
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None or "T" not in text.upper():
        raise ValueError(f"not an RFC 3339 time with an offset: {text!r}")
    return moment.astimezone(UTC)
