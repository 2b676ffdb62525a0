"""Times as the contract writes them: RFC 3339, UTC, microseconds, ``Z``."""

from datetime import UTC, datetime


def format_time(moment: datetime) -> str:
    """The moment (with any time zone) as ``2026-01-31T12:00:00.000000Z``."""
    return moment.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"


def parse_time(text: str) -> datetime:
    """An RFC 3339 time with an offset as an aware UTC datetime. Raises ``ValueError`` for anything else."""
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None or "T" not in text.upper():
        raise ValueError(f"not an RFC 3339 time with an offset: {text!r}")
    return moment.astimezone(UTC)
