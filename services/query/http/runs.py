"""The three reads of runs and steps.

Invariant: an answer is of the caller's own workspace. Under ``min_seq`` it reflects that event or it is a 503, never a
404 and never stale.
"""

import time
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple, TypeVar

import msgspec
import structlog
from litestar import Request, get
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath
from litestar.types import ASGIApp

from services.query.http.describe import GET_RUN, LIST_RUNS, LIST_STEPS
from services.query.http.parameters import MOST_SEQ, Parameters
from services.query.paging import (
    PageCursorError,
    fingerprint,
    read_run_cursor,
    read_step_cursor,
    write_run_cursor,
    write_step_cursor,
)
from services.query.progress import (
    CallerLeftError,
    Judged,
    Progress,
    ProjectionBehindError,
    WaitersOverloadedError,
)
from services.query.reads import (
    NO_RUN,
    NO_STEPS,
    Reads,
    ReadsOverloadedError,
    Run,
    RunFilters,
    RunRead,
    StepsRead,
    StoreUnavailableError,
    encode_page,
)
from shared.contracts.ids import is_token
from shared.http.connection import telling_who_leaves
from shared.http.encoded import EncodedJson, no_answer
from shared.http.identity import Identify, Identity
from shared.http.negotiation import require_acceptable
from shared.http.problems import Problem
from shared.telemetry import Logger

AnyRequest = Request[Any, Any, Any]
JudgedT = TypeVar("JudgedT", bound=Judged)

_MOST_ROWS = 200
_log: Logger = structlog.get_logger("reads")
_encode = msgspec.json.Encoder().encode


class RunBody(msgspec.Struct, frozen=True):
    run: Run


class _Applied(NamedTuple):
    """A room's position alone; a room nobody has written to yet is at 0."""

    room_id: str | None
    applied_seq: int


class _Freshness(NamedTuple):
    """``min_seq`` and ``wait``: what the caller wants reflected, and for how long it waits for that."""

    min_seq: int
    wait_seconds: float


def run_routes(reads: Reads, progress: Progress, identify: Identify) -> list[HTTPRouteHandler]:
    """The handlers, bound to what they read from and to how callers are known."""

    async def fresh(
        request: AnyRequest, identity: Identity, freshness: _Freshness, read: Callable[[], Awaitable[JudgedT]]
    ) -> JudgedT | None:
        """None when there is nobody any more to be answered."""
        with _problems():
            min_seq, seconds = freshness
            if min_seq == 0:
                return await read()
            subject = None  # without a token it is anybody's word
            if identity.expires_at is not None:
                subject, seconds = identity.actor_id, min(seconds, identity.expires_at - time.time())
            leaving = partial(telling_who_leaves, request.scope)
            try:
                return await progress.reach(identity.workspace_id, min_seq, seconds, read, leaving, subject)
            except CallerLeftError:
                return None

    @get(
        "/v1/runs",
        operation_id="ListRuns",
        summary="List runs, newest first",
        tags=["reads"],
        operation_class=LIST_RUNS,
    )
    async def list_runs(request: AnyRequest) -> ASGIApp:
        require_acceptable(request, "application/json")
        identity = identify(request)
        workspace_id = identity.workspace_id
        parameters = Parameters(request)
        room_id = parameters.token("room_id")
        if room_id is not None:
            identity.require_room(room_id)
        filters = RunFilters(
            room_id=room_id,
            thread_id=parameters.token("thread_id"),
            statuses=parameters.statuses("status"),
            tags=parameters.tags("tag"),
            correlation_id=parameters.correlation_id("correlation_id"),
            created_after=parameters.time("created_after"),
            created_before=parameters.time("created_before"),
        )
        limit = parameters.integer("limit", 50, 1, _MOST_ROWS)
        freshness = _freshness(parameters)
        rooms = _only_rooms(identity, room_id)
        mark = fingerprint("runs", workspace_id, filters, *([rooms] if rooms is not None else []))
        cursor = parameters.text("cursor")
        try:
            position = None if cursor is None else read_run_cursor(mark, cursor)
        except PageCursorError as error:
            raise _invalid_cursor(error) from None
        if freshness.min_seq:
            if room_id is None:
                raise Problem(400, "missing_room_id", "room_id: min_seq is a position in a room, so the room is needed")

            async def applied() -> _Applied:
                return _Applied(room_id, await reads.applied_seq(workspace_id, room_id))

            # The page is read after this, so it can only be newer.
            if await fresh(request, identity, freshness, applied) is None:
                return no_answer

        with _problems():
            page = await reads.runs(workspace_id, filters, position, limit, rooms)
        following = None if page.last is None else write_run_cursor(mark, page.last)
        return EncodedJson(encode_page("runs", page.runs, following))

    @get(
        "/v1/runs/{run_id:str}",
        operation_id="GetRun",
        summary="Read one run",
        tags=["reads"],
        operation_class=GET_RUN,
    )
    async def get_run(request: AnyRequest, run_id: FromPath[str]) -> ASGIApp:
        require_acceptable(request, "application/json")
        identity = identify(request)
        freshness = _freshness(Parameters(request))
        _require_form(run_id)

        async def read() -> RunRead:
            answer = await reads.run(identity.workspace_id, run_id)
            return answer if _is_seen(answer, identity) else NO_RUN

        answer = await fresh(request, identity, freshness, read)
        if answer is None:
            return no_answer
        if answer.run is None:
            raise _run_not_found()
        return EncodedJson(_encode(RunBody(answer.run)))

    @get(
        "/v1/runs/{run_id:str}/steps",
        operation_id="ListSteps",
        summary="List a run's steps, oldest first",
        tags=["reads"],
        operation_class=LIST_STEPS,
    )
    async def list_steps(request: AnyRequest, run_id: FromPath[str]) -> ASGIApp:
        require_acceptable(request, "application/json")
        identity = identify(request)
        workspace_id = identity.workspace_id
        parameters = Parameters(request)
        limit = parameters.integer("limit", _MOST_ROWS, 1, _MOST_ROWS)
        freshness = _freshness(parameters)
        mark = fingerprint("steps", workspace_id, run_id)
        cursor = parameters.text("cursor")
        try:
            after = 0 if cursor is None else read_step_cursor(mark, cursor)
        except PageCursorError as error:
            raise _invalid_cursor(error) from None
        _require_form(run_id)

        async def read() -> StepsRead:
            answer = await reads.steps(workspace_id, run_id, after, limit)
            return answer if _is_seen(answer, identity) else NO_STEPS

        answer = await fresh(request, identity, freshness, read)
        if answer is None:
            return no_answer
        if answer.steps is None:
            raise _run_not_found()
        following = write_step_cursor(mark, answer.steps[-1].stream_seq) if answer.has_more else None
        return EncodedJson(encode_page("steps", answer.steps, following))

    return [list_runs, get_run, list_steps]


def _is_seen(answer: Judged, identity: Identity) -> bool:
    """Whether what was read is there as far as the caller is concerned: if not, it is waited for and missed alike."""
    return answer.room_id is None or identity.may_see(answer.room_id)


def _only_rooms(identity: Identity, room_id: str | None) -> tuple[str, ...] | None:
    """The rooms a list is limited to beyond its filters."""
    return None if identity.rooms is None or room_id is not None else tuple(sorted(identity.rooms))


@contextmanager
def _problems() -> Generator[None, None, None]:
    """What can go wrong with a read, as the contract says it."""
    try:
        yield
    except ProjectionBehindError as error:
        raise Problem(
            503,
            "projection_behind",
            f"min_seq: the projection has applied up to {error.stream_seq} of this room",
            retry_after=1,
            extra={"stream_seq": error.stream_seq},
        ) from None
    except (ReadsOverloadedError, WaitersOverloadedError):
        raise Problem(
            503,
            "overloaded",
            "too many requests are being read or waited for, or too many answers are not taken",
            retry_after=1,
        ) from None
    except StoreUnavailableError as error:
        _log.warning("store_unavailable", error=str(error))
        raise Problem(503, "store_unavailable", "the projections cannot be read now", retry_after=1) from error


def _freshness(parameters: Parameters) -> _Freshness:
    return _Freshness(parameters.integer("min_seq", 0, 0, MOST_SEQ), parameters.integer("wait", 2000, 0, 30_000) / 1000)


def _require_form(run_id: str) -> None:
    # What no id can look like is nobody's run, and need not be asked for.
    if not is_token(run_id):
        raise _run_not_found()


def _run_not_found() -> Problem:
    return Problem(404, "run_not_found", "there is no such run in this workspace")


def _invalid_cursor(error: PageCursorError) -> Problem:
    return Problem(400, "invalid_cursor", f"cursor: {error}")
