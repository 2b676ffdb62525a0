"""The answer to a request that is not read on: in full, because it is written past the application."""

from collections.abc import Iterable

from shared.http.cors import Cors
from shared.http.exchange import REQUEST_ID, known_by
from shared.http.head import Fields
from shared.http.problems import PROBLEM_JSON, Problem, phrase


def refusal(problem: Problem, url: bytes, fields: Fields, server: Iterable[tuple[bytes, bytes]], cors: Cors) -> bytes:
    """Head and body, from what of the request is known; ``server`` are the fields of every answer."""
    body = problem.body(url.partition(b"?")[0].decode("ascii", "replace") or "/")
    head = (
        b"HTTP/1.1 %d %b\r\n" % (problem.status, phrase(problem.status).encode()),
        *(b"%b: %b\r\n" % field for field in server),
        b"content-type: %b\r\ncontent-length: %d\r\n" % (PROBLEM_JSON.encode(), len(body)),
        b"" if problem.retry_after is None else b"retry-after: %d\r\n" % problem.retry_after,
        b"%b: %b\r\n" % (REQUEST_ID, known_by(dict(fields).get(REQUEST_ID), fields)),
        cors.head_lines(fields),
        b"connection: close\r\n\r\n",
    )
    return b"".join((*head, body))
