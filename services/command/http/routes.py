"""The five POSTs.

Invariant: a success is sent only for an outcome that group commit gave, that is, after the commit.
"""

import hashlib
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, NamedTuple

from litestar import Request as HttpRequest
from litestar import post
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath

from services.command.domain.batch import Accepted, IdempotencyKey, Request
from services.command.domain.commands import Command, CreateRun, held_bytes
from services.command.domain.decide import Caller
from services.command.group_commit import GroupCommit
from services.command.http.answers import (
    answer,
    room_misnumbered,
    store_unavailable,
    too_many_answers,
    too_many_commands,
)
from services.command.http.bodies import (
    TURN_BYTES,
    B,
    Body,
    CompleteRunBody,
    CreateRunBody,
    CreateStepBody,
    FailRunBody,
    StartRunBody,
    body_decoder,
    fingerprinted,
    to_complete_run,
    to_create_run,
    to_create_step,
    to_fail_run,
    to_start_run,
    turn_of,
)
from services.command.http.describe import command
from services.command.http.reception import Reception
from services.command.submissions import (
    MisnumberedRoomError,
    NotStorableError,
    OverloadedError,
    StoreUnavailableError,
)
from shared.context import current_request
from shared.contracts.ids import is_printable_ascii, is_token
from shared.contracts.times import format_time
from shared.http.backlog import Backlog
from shared.http.encoded import EncodedJson
from shared.http.fields import single
from shared.http.identity import Identify
from shared.http.negotiation import require_acceptable, require_json_body
from shared.http.problems import Problem, invalid_request
from shared.turns import Turns

AnyRequest = HttpRequest[Any, Any, Any]


def command_routes(
    reception: Reception, commit: GroupCommit, identify: Identify, backlog: Backlog
) -> list[HTTPRouteHandler]:
    """The handlers, bound to what takes their bodies, the group commit that serves them and how callers are known.

    Nothing is read for a command while the ``backlog`` of answers has no room.
    """
    handle = _Commands(reception, commit, identify, backlog).handle

    @_post("/v1/runs", "CreateRun", 201, "Create a run", CreateRunBody, "missing_room_id")
    async def create_run(request: AnyRequest) -> EncodedJson:
        return await handle(request, _decode_create_run, to_create_run)

    @_post("/v1/runs/{run_id:str}/start", "StartRun", 200, "Start a queued run", StartRunBody, "run_not_queued")
    async def start_run(request: AnyRequest, run_id: FromPath[str]) -> EncodedJson:
        return await handle(request, _decode_start_run, lambda body: to_start_run(_existing(run_id), body))

    @_post(
        "/v1/runs/{run_id:str}/complete",
        "CompleteRun",
        200,
        "Complete a queued or running run",
        CompleteRunBody,
        "run_already_ended",
    )
    async def complete_run(request: AnyRequest, run_id: FromPath[str]) -> EncodedJson:
        return await handle(request, _decode_complete_run, lambda body: to_complete_run(_existing(run_id), body))

    @_post(
        "/v1/runs/{run_id:str}/fail", "FailRun", 200, "Fail a queued or running run", FailRunBody, "run_already_ended"
    )
    async def fail_run(request: AnyRequest, run_id: FromPath[str]) -> EncodedJson:
        return await handle(request, _decode_fail_run, lambda body: to_fail_run(_existing(run_id), body))

    @_post(
        "/v1/runs/{run_id:str}/steps",
        "CreateStep",
        201,
        "Add a step to a running run",
        CreateStepBody,
        "missing_kind",
        "run_not_running",
    )
    async def create_step(request: AnyRequest, run_id: FromPath[str]) -> EncodedJson:
        return await handle(request, _decode_create_step, lambda body: to_create_step(_existing(run_id), body))

    return [create_run, start_run, complete_run, fail_run, create_step]


_decode_create_run = body_decoder(CreateRunBody)
_decode_start_run = body_decoder(StartRunBody)
_decode_complete_run = body_decoder(CompleteRunBody)
_decode_fail_run = body_decoder(FailRunBody)
_decode_create_step = body_decoder(CreateStepBody)


def _existing(run_id: str) -> str:
    """The id, if it has the form of one; no run has any other."""
    if not is_token(run_id):
        raise Problem(404, "run_not_found", "there is no such run in this workspace")
    return run_id


class _Asked(NamedTuple):
    """What is left of a request once its body is read. ``size`` is what the command takes, in bytes."""

    command: Command
    size: int
    idempotency: IdempotencyKey | None


class _Commands:
    """What the five have in common: from a request to the answer to its command."""

    def __init__(self, reception: Reception, commit: GroupCommit, identify: Identify, backlog: Backlog) -> None:
        self._reception = reception
        self._commit = commit
        self._identify = identify
        self._backlog = backlog
        self._turns = Turns(TURN_BYTES)

    async def handle(
        self, request: AnyRequest, decode: Callable[[bytes], B], to_command: Callable[[B], Command]
    ) -> EncodedJson:
        require_acceptable(request, "application/json")
        if not self._backlog.has_room():
            raise too_many_answers()
        command, size, idempotency = await self._read(request, decode, to_command)
        identity = self._identify(request)
        context = current_request()
        if isinstance(command, CreateRun):
            identity.require_room(command.room_id)
            if context is not None:
                context.correlation_id = command.correlation_id
        submitted = Request(
            caller=Caller(identity.workspace_id, identity.actor_type, identity.actor_id, identity.rooms),
            command=command,
            occurred_at=format_time(datetime.now(UTC)),
            idempotency=idempotency,
            traceparent=context.traceparent if context is not None else None,
        )
        try:
            outcome = await self._commit.submit(submitted, size)
        except OverloadedError:
            raise too_many_commands() from None
        except StoreUnavailableError:
            raise store_unavailable() from None
        except MisnumberedRoomError:
            raise room_misnumbered() from None
        except NotStorableError as error:
            raise invalid_request(f"body: the event store cannot hold it ({error})") from error
        if context is not None and isinstance(outcome, Accepted):
            context.correlation_id = outcome.correlation_id
        return answer(outcome)

    async def _read(
        self, request: AnyRequest, decode: Callable[[bytes], B], to_command: Callable[[B], Command]
    ) -> _Asked:
        """Neither the body nor what it is decoded to outlives this: as objects it may be thirty times larger."""
        raw = await self._reception.read(request)
        if raw:
            require_json_body(request)
        if turn := turn_of(raw):
            try:
                with self._commit.expecting(len(raw)):
                    await self._turns.take(turn)
            except OverloadedError:
                raise too_many_commands() from None
        body = decode(raw)
        command = to_command(body)
        return _Asked(command, held_bytes(command) if turn else len(raw), _idempotency_key(request, command, body))


def _idempotency_key(request: AnyRequest, command: Command, body: Body) -> IdempotencyKey | None:
    """The key with the fingerprint of the decoded request: member order and white space do not matter to it."""
    key = single(request, "Idempotency-Key")
    if key is None:
        return None
    if not is_printable_ascii(key, 255):
        raise invalid_request("Idempotency-Key: expected 1-255 printable ASCII characters")
    digest = hashlib.sha256(f"{request.method} {request.scope['path']}\n".encode())
    digest.update(fingerprinted(command, body))
    return IdempotencyKey(key, digest.digest())


def _post(
    path: str, operation_id: str, status: int, summary: str, body: type[Body], *errors: str
) -> Callable[[Callable[..., Any]], HTTPRouteHandler]:
    """A POST route, described."""
    return post(
        path,
        operation_id=operation_id,
        status_code=status,
        summary=summary,
        tags=["commands"],
        operation_class=command(body, status, *errors),
    )
