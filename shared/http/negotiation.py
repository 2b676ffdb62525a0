"""Content negotiation: what a client sends and what it accepts (RFC 9110, section 12).

Invariant: a representation a client has ruled out is never sent as a success, and a body is never guessed at.
"""

from typing import Any, Final

from litestar import Request

from shared.http.fields import single
from shared.http.problems import Problem, invalid_request

_MOST_PIECES: Final = 100
"""Of a field that is a list, or has parameters. Each takes a microsecond, and 64 KiB may be nothing else."""


def require_acceptable(request: Request[Any, Any, Any], media_type: str) -> None:
    """Raises a 406 ``Problem`` when the request's Accept header rules out ``media_type``, and a 400 one when it goes on
    for too long to tell."""
    accept = ",".join(request.headers.getall("accept", ()))  # one list, however many lines (RFC 9110, 5.3)
    if not accept or accept == "*/*":
        return
    if accept.count(",") + accept.count(";") >= _MOST_PIECES:
        raise invalid_request(f"Accept: more than {_MOST_PIECES} media ranges and parameters")
    kind = media_type.partition("/")[0]
    wanted = {media_type, f"{kind}/*", "*/*"}
    # The most specific range that matches decides; a quality of 0 rules out.
    best = (-1, 0.0)
    for part in accept.split(","):
        name, *parameters = (piece.strip().lower() for piece in part.split(";"))
        if name in wanted:
            specific = 0 if name == "*/*" else 1 if name.endswith("/*") else 2
            best = max(best, (specific, _quality(parameters)))
    if best[1] <= 0:
        raise Problem(406, "not_acceptable", f"Accept: this resource is {media_type}")


def require_json_body(request: Request[Any, Any, Any]) -> None:
    """Raises a 415 ``Problem`` when the request says its body is something else than JSON, as it stands; a 400 one when
    it says so more than once."""
    for coding in request.headers.getall("content-encoding", ()):
        if coding.strip().lower() not in ("", "identity"):
            raise Problem(415, "unsupported_media_type", "Content-Encoding: a body is taken in no coding but identity")
    content_type = single(request, "Content-Type")
    if content_type is None:
        return
    if content_type.count(";") > _MOST_PIECES:
        detail = f"Content-Type: more than {_MOST_PIECES} parameters"
        raise Problem(415, "unsupported_media_type", detail)
    media_type, *parameters = (piece.strip().lower() for piece in content_type.split(";"))
    charsets = {p.partition("=")[2].strip('"') for p in parameters if p.startswith("charset=")}
    if media_type != "application/json" or not charsets <= {"utf-8", "utf8"}:
        raise Problem(415, "unsupported_media_type", "Content-Type: expected application/json in UTF-8")


def _quality(parameters: list[str]) -> float:
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "q":
            try:
                return float(value)
            except ValueError:
                return 0.0
    return 1.0
