"""The five POSTs.

Invariant: a success is sent only for an outcome that group commit gave, that is, after the commit.
"""

import hashlib
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import msgspec
from litestar import Request as HttpRequest
from litestar import post
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath

from services.command.domain.batch import Accepted, IdempotencyKey, Request
from services.command.domain.commands import Command, CreateRun
from services.command.domain.decide import Caller
from services.command.group_commit import GroupCommit, NotStorableError, OverloadedError, StoreUnavailableError
from services.command.http.answers import answer, store_unavailable, too_many_commands
from services.command.http.bodies import (
    B,
    Body,
    CompleteRunBody,
    CreateRunBody,
    CreateStepBody,
    FailRunBody,
    StartRunBody,
    body_decoder,
    to_complete_run,
    to_create_run,
    to_create_step,
    to_fail_run,
    to_start_run,
)
from services.command.http.describe import command
from services.command.http.reception import Reception
from shared.context import current_request
from shared.contracts.ids import is_printable_ascii, is_token
from shared.contracts.times import format_time
from shared.http.encoded import EncodedJson
from shared.http.fields import single
from shared.http.identity import Identify, Identity
from shared.http.negotiation import require_acceptable, require_json_body
from shared.http.problems import Problem, invalid_request

AnyRequest = HttpRequest[Any, Any, Any]

_fingerprint_encoder = msgspec.json.Encoder(order="sorted")


def command_routes(reception: Reception, commit: GroupCommit, identify: Identify) -> list[HTTPRouteHandler]:
    """The handlers, bound to what takes their bodies, the group commit that serves them and how callers are known."""

    @_post("/v1/runs", "CreateRun", 201, "Create a run", CreateRunBody, "missing_room_id")
    async def create_run(request: AnyRequest) -> EncodedJson:
        body, size = await _read(reception, request, _decode_create_run)
        command = to_create_run(body)
        identity = identify(request)
        identity.require_room(command.room_id)
        return await _submit(commit, request, size, identity, command)

    @_post("/v1/runs/{run_id:str}/start", "StartRun", 200, "Start a queued run", StartRunBody, "run_not_queued")
    async def start_run(request: AnyRequest, run_id: FromPath[str]) -> EncodedJson:
        body, size = await _read(reception, request, _decode_start_run)
        return await _submit(commit, request, size, identify(request), to_start_run(_existing(run_id), body))

    @_post(
        "/v1/runs/{run_id:str}/complete",
        "CompleteRun",
        200,
        "Complete a queued or running run",
        CompleteRunBody,
        "run_already_ended",
    )
    async def complete_run(request: AnyRequest, run_id: FromPath[str]) -> EncodedJson:
        body, size = await _read(reception, request, _decode_complete_run)
        return await _submit(commit, request, size, identify(request), to_complete_run(_existing(run_id), body))

    @_post(
        "/v1/runs/{run_id:str}/fail", "FailRun", 200, "Fail a queued or running run", FailRunBody, "run_already_ended"
    )
    async def fail_run(request: AnyRequest, run_id: FromPath[str]) -> EncodedJson:
        body, size = await _read(reception, request, _decode_fail_run)
        return await _submit(commit, request, size, identify(request), to_fail_run(_existing(run_id), body))

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
        body, size = await _read(reception, request, _decode_create_step)
        return await _submit(commit, request, size, identify(request), to_create_step(_existing(run_id), body))

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


async def _read(reception: Reception, request: AnyRequest, decode: Callable[[bytes], B]) -> tuple[B, int]:
    """The body, and of how many bytes it was."""
    require_acceptable(request, "application/json")
    raw = await reception.read(request)
    if raw:
        require_json_body(request)
    return decode(raw), len(raw)


async def _submit(
    commit: GroupCommit, request: AnyRequest, size: int, identity: Identity, command: Command
) -> EncodedJson:
    context = current_request()
    if context is not None and isinstance(command, CreateRun):
        context.correlation_id = command.correlation_id
    submitted = Request(
        caller=Caller(identity.workspace_id, identity.actor_type, identity.actor_id, identity.rooms),
        command=command,
        occurred_at=format_time(datetime.now(UTC)),
        idempotency=_idempotency_key(request, command),
        traceparent=context.traceparent if context is not None else None,
    )
    try:
        outcome = await commit.submit(submitted, size)
    except OverloadedError:
        raise too_many_commands() from None
    except StoreUnavailableError:
        raise store_unavailable() from None
    except NotStorableError as error:
        raise invalid_request(f"body: the event store cannot hold it ({error})") from error
    if context is not None and isinstance(outcome, Accepted):
        context.correlation_id = outcome.correlation_id
    return answer(outcome)


def _idempotency_key(request: AnyRequest, command: Command) -> IdempotencyKey | None:
    """The key with the fingerprint of the decoded request: member order and white space do not matter to it."""
    key = single(request, "Idempotency-Key")
    if key is None:
        return None
    if not is_printable_ascii(key, 255):
        raise invalid_request("Idempotency-Key: expected 1-255 printable ASCII characters")
    digest = hashlib.sha256(f"{request.method} {request.scope['path']}\n".encode())
    digest.update(_fingerprint_encoder.encode(command))
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
