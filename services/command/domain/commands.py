"""What a client can ask for, validated in form but not yet decided.

Two commands with equal members are the same request: their canonical encoding is the idempotency fingerprint.
"""

from msgspec import Struct

from shared.contracts.forms import JsonObject


class CreateRun(Struct, frozen=True, kw_only=True, tag="create_run"):
    room_id: str
    thread_id: str | None = None
    title: str | None = None
    goal: str | None = None
    input: JsonObject | None = None
    tags: tuple[str, ...] | None = None
    correlation_id: str | None = None
    causation_id: str | None = None


class StartRun(Struct, frozen=True, kw_only=True, tag="start_run"):
    run_id: str


class CompleteRun(Struct, frozen=True, kw_only=True, tag="complete_run"):
    run_id: str
    summary: str | None = None
    output: JsonObject | None = None


class FailRun(Struct, frozen=True, kw_only=True, tag="fail_run"):
    run_id: str
    message: str | None = None
    error: JsonObject | None = None


class CreateStep(Struct, frozen=True, kw_only=True, tag="create_step"):
    run_id: str
    kind: str
    title: str | None = None
    input: JsonObject | None = None


RunCommand = StartRun | CompleteRun | FailRun | CreateStep
"""A command on a run that exists."""

Command = CreateRun | RunCommand
