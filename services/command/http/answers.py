"""Outcomes as HTTP answers.

Invariant: each outcome has one answer. A success is the stored bytes, so a replay is the same to the letter.
"""

from litestar import Response

from services.command import metrics
from services.command.domain.batch import Accepted, Outcome
from services.command.domain.decide import RefusalCode
from shared.http.problems import Problem

_STATUS: dict[RefusalCode, int] = {
    "run_not_found": 404,
    "run_not_queued": 409,
    "run_already_ended": 409,
    "run_not_running": 409,
    "idempotency_key_reused": 422,
}


def answer(outcome: Outcome) -> Response[bytes]:
    """The success; raises the ``Problem`` of a refusal."""
    if not isinstance(outcome, Accepted):
        metrics.COMMANDS.labels(outcome.error).inc()
        raise Problem(_STATUS[outcome.error], outcome.error, outcome.detail)
    metrics.COMMANDS.labels("replayed" if outcome.replayed else "accepted").inc()
    headers: dict[str, str] = {}
    if outcome.location is not None:
        headers["Location"] = outcome.location
    if outcome.replayed:
        headers["Idempotency-Replayed"] = "true"
    return Response(outcome.response, status_code=outcome.status, media_type="application/json", headers=headers)


def overloaded() -> Problem:
    metrics.COMMANDS.labels("overloaded").inc()
    return Problem(503, "overloaded", "too many commands are waiting to be committed", retry_after=1)


def store_unavailable() -> Problem:
    metrics.COMMANDS.labels("store_unavailable").inc()
    return Problem(
        503,
        "store_unavailable",
        "the event store did not confirm the command in time; with an Idempotency-Key it is safe to send it again",
        retry_after=1,
    )
