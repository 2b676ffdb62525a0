"""The errors there are, in one place: each stable code with its status, what it means, and an example of its detail.

Invariant: an answer that is not a success has a code that stands here, and its status is the one that stands here.
"""

from collections.abc import Mapping
from typing import Final, NamedTuple


class ErrorKind(NamedTuple):
    """``retry_after``: the answer says when to come back, in seconds."""

    status: int
    meaning: str
    example: str
    retry_after: bool = False


ERRORS: Final[Mapping[str, ErrorKind]] = {
    "invalid_request": ErrorKind(
        400, "The detail names the member, parameter or header, and says why.", "tags[0]: expected 1-256 characters"
    ),
    "missing_room_id": ErrorKind(400, "A room is needed.", "room_id: required, 1-128 of A-Z a-z 0-9 _ -"),
    "missing_kind": ErrorKind(400, "A step needs a kind.", "kind: required, what sort of step this is"),
    "invalid_status": ErrorKind(
        400, "There is no such status.", "status: expected one of queued, running, succeeded, failed"
    ),
    "invalid_cursor": ErrorKind(400, "No cursor, or one of another list.", "cursor: not a cursor"),
    "missing_token": ErrorKind(401, "There is no token.", "Authorization: expected a bearer token"),
    "invalid_token": ErrorKind(401, "The token is not valid, or no longer.", "the token has expired"),
    "insufficient_scope": ErrorKind(403, "The token does not allow this.", "this needs the scope runs:write"),
    "run_not_found": ErrorKind(
        404, "There is no such run, or it is another workspace's.", "there is no such run in this workspace"
    ),
    "not_found": ErrorKind(404, "There is no such path.", "there is nothing at this path"),
    "method_not_allowed": ErrorKind(405, "Not on this path.", "PUT is not allowed on this path"),
    "not_acceptable": ErrorKind(
        406, "The Accept header rules out what this is.", "Accept: this resource is application/json"
    ),
    "request_timeout": ErrorKind(
        408, "The request did not come whole in time; the connection is closed.", "the request took too long to come"
    ),
    "run_not_queued": ErrorKind(409, "Only a queued run can start.", "run … is running; only a queued run can start"),
    "run_already_ended": ErrorKind(409, "The run has ended.", "run … has succeeded already"),
    "run_not_running": ErrorKind(409, "Steps need a running run.", "run … is queued; steps need a running run"),
    "body_too_large": ErrorKind(413, "The body is beyond the limit.", "the body is larger than 1048576 bytes"),
    "uri_too_long": ErrorKind(414, "The URI is beyond the limit.", "the URI is longer than 32768 bytes"),
    "unsupported_media_type": ErrorKind(
        415, "The body is not JSON.", "Content-Type: expected application/json in UTF-8"
    ),
    "idempotency_key_reused": ErrorKind(
        422, "The key was used with another request.", "Idempotency-Key: it was used before with another request"
    ),
    "headers_too_large": ErrorKind(
        431, "The headers are beyond the limit.", "the headers are larger than 65536 bytes or more than 100"
    ),
    "internal_error": ErrorKind(500, "A fault of the service.", "the request could not be handled"),
    "keys_unavailable": ErrorKind(
        503,
        "What tokens are verified with could not be had.",
        "the keys that tokens are verified with are not known here now",
        retry_after=True,
    ),
    "store_unavailable": ErrorKind(
        503,
        "The database did not answer in time, or takes nothing of the room. A command may have been committed: send it"
        " again with its key.",
        "the event store did not confirm the command in time; with an Idempotency-Key it is safe to send it again",
        retry_after=True,
    ),
    "overloaded": ErrorKind(
        503, "There is too much under way.", "too many commands are waiting to be committed", retry_after=True
    ),
    "projection_behind": ErrorKind(
        503,
        "What min_seq asks for is not reflected yet; `stream_seq` is how far the room is.",
        "min_seq: the projection has applied up to 3 of this room",
        retry_after=True,
    ),
}
