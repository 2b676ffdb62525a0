"""Outcomes as HTTP answers.

Invariant: each outcome has one answer. A success is the stored bytes, so a replay is the same to the letter.
"""

from services.command import metrics
from services.command.domain.batch import Accepted, Outcome
from services.command.domain.decide import RefusalCode
from shared.http.encoded import EncodedJson
from shared.http.problems import Problem

_STATUS: dict[RefusalCode, int] = {
    "run_not_found": 404,
    "run_not_queued": 409,
    "run_already_ended": 409,
    "run_not_running": 409,
    "idempotency_key_reused": 422,
}

_accepted, _replayed = metrics.COMMANDS.labels("accepted"), metrics.COMMANDS.labels("replayed")


def answer(outcome: Outcome) -> EncodedJson:
    """The success; raises the ``Problem`` of a refusal."""
    if not isinstance(outcome, Accepted):
        metrics.COMMANDS.labels(outcome.error).inc()
        raise Problem(_STATUS[outcome.error], outcome.error, outcome.detail)
    (_replayed if outcome.replayed else _accepted).inc()
    headers: list[tuple[bytes, bytes]] = []
    if outcome.location is not None:
        headers.append((b"location", outcome.location.encode()))
    if outcome.replayed:
        headers.append((b"idempotency-replayed", b"true"))
    return EncodedJson(outcome.response, outcome.status, headers)


def too_many_commands() -> Problem:
    return _overloaded("too many commands are waiting to be committed")


def too_many_answers() -> Problem:
    return _overloaded("too many answers are waiting for their clients to take them")


def too_many_bodies() -> Problem:
    return _overloaded("too many bodies are on their way, and this one takes long")


def _overloaded(detail: str) -> Problem:
    metrics.COMMANDS.labels("overloaded").inc()
    return Problem(503, "overloaded", detail, retry_after=1)


def store_unavailable() -> Problem:
    return _unavailable(
        "the event store did not confirm the command in time; with an Idempotency-Key it is safe to send it again", 1
    )


def room_misnumbered() -> Problem:
    """Nothing that the caller has sent is at fault: it is taken once somebody has seen to the room."""
    return _unavailable("the event store does not take this until its operator has put a number of the room right", 10)


def _unavailable(detail: str, retry_after: int) -> Problem:
    metrics.COMMANDS.labels("store_unavailable").inc()
    return Problem(503, "store_unavailable", detail, retry_after=retry_after)
