"""Query strings, read by hand.

Invariant: whatever a client sends is a value of the contract or a 400 that names the member and says why. A parameter
that may be given once is never given twice; one that is not known here is nobody's business.
"""

import re
from datetime import datetime
from typing import Any
from urllib.parse import parse_qsl

from litestar import Request

from shared.contracts.ids import is_correlation_id, is_token
from shared.contracts.times import parse_time
from shared.http.problems import Problem, invalid_request

STATUSES = ("queued", "running", "succeeded", "failed")
MOST_TAGS = 100
MOST_SEQ = 2**63 - 1

_NUMBER = re.compile(r"[0-9]{1,19}", re.ASCII)
_RFC_3339 = re.compile(
    r"\d{4}-\d{2}-\d{2}[Tt]\d{2}:\d{2}:\d{2}(?:\.\d{1,9})?(?:[Zz]|[+-]\d{2}:\d{2})", re.ASCII
)  # section 5.6
_MOST_PARAMETERS = 200


class Parameters:
    """The parameters of one request. Every getter raises a 400 ``Problem`` that names the parameter."""

    def __init__(self, request: Request[Any, Any, Any]) -> None:
        self._values: dict[str, list[str]] = {}
        query: bytes = request.scope["query_string"]
        if not query:
            return
        try:
            pairs = parse_qsl(
                query.decode("utf-8"), keep_blank_values=True, errors="strict", max_num_fields=_MOST_PARAMETERS
            )
        except UnicodeDecodeError:
            raise invalid_request("query: not UTF-8") from None
        except ValueError:
            raise invalid_request(f"query: more than {_MOST_PARAMETERS} parameters") from None
        for name, value in pairs:
            self._values.setdefault(name, []).append(value)

    def text(self, name: str) -> str | None:
        """The value, or None when it is not given."""
        values = self._values.get(name)
        if values is None:
            return None
        if len(values) > 1:
            raise invalid_request(f"{name}: given more than once")
        return values[0]

    def integer(self, name: str, default: int, least: int, most: int) -> int:
        """A plain decimal number from ``least`` to ``most``, both included."""
        text = self.text(name)
        if text is None:
            return default
        if _NUMBER.fullmatch(text) is None or not least <= int(text) <= most:
            raise invalid_request(f"{name}: expected a whole number from {least} to {most}")
        return int(text)

    def token(self, name: str) -> str | None:
        """A room or thread id."""
        text = self.text(name)
        if text is not None and not is_token(text):
            raise invalid_request(f"{name}: expected 1-128 of A-Z a-z 0-9 _ -")
        return text

    def correlation_id(self, name: str) -> str | None:
        text = self.text(name)
        if text is not None and not is_correlation_id(text):
            raise invalid_request(f"{name}: expected 1-128 printable characters without white space")
        return text

    def time(self, name: str) -> datetime | None:
        """A time with an offset. A ``+`` that the query string has turned into a space is taken for what it was."""
        text = self.text(name)
        if text is None:
            return None
        text = text.replace(" ", "+").upper()
        try:
            if _RFC_3339.fullmatch(text):
                return parse_time(text)
        except (ValueError, OverflowError):
            pass
        raise invalid_request(f"{name}: expected an RFC 3339 time with an offset, such as 2026-01-31T12:00:00Z")

    def statuses(self, name: str) -> tuple[str, ...]:
        """Any of the statuses, each once, in their own order; empty when none is given or all of them are."""
        given = self._values.get(name, [])
        for text in given:
            if text not in STATUSES:
                raise Problem(400, "invalid_status", f"{name}: expected one of {', '.join(STATUSES)}")
        statuses = tuple(status for status in STATUSES if status in given)
        return () if statuses == STATUSES else statuses

    def tags(self, name: str) -> tuple[str, ...]:
        """Tags, each once, sorted."""
        tags = tuple(sorted(set(self._values.get(name, []))))
        if len(tags) > MOST_TAGS:
            raise invalid_request(f"{name}: at most {MOST_TAGS} may be given")
        if any("\0" in tag for tag in tags):
            raise invalid_request(f"{name}: a tag holds no NUL")
        return tags
