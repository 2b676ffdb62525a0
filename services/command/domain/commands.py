"""What a client can ask for, validated in form but not yet decided.

Two commands with equal members are the same request: their canonical encoding is the idempotency fingerprint. What a
client is free in is held as the JSON that its event will have: as objects it may be thirty times larger.
"""

import sys

from msgspec import Raw, Struct


class CreateRun(Struct, frozen=True, kw_only=True, tag="create_run"):
    room_id: str
    thread_id: str | None = None
    title: str | None = None
    goal: str | None = None
    input: Raw | None = None
    tags: tuple[str, ...] | None = None
    correlation_id: str | None = None
    causation_id: str | None = None


class StartRun(Struct, frozen=True, kw_only=True, tag="start_run"):
    run_id: str


class CompleteRun(Struct, frozen=True, kw_only=True, tag="complete_run"):
    run_id: str
    summary: str | None = None
    output: Raw | None = None


class FailRun(Struct, frozen=True, kw_only=True, tag="fail_run"):
    run_id: str
    message: str | None = None
    error: Raw | None = None


class CreateStep(Struct, frozen=True, kw_only=True, tag="create_step"):
    run_id: str
    kind: str
    title: str | None = None
    input: Raw | None = None


RunCommand = StartRun | CompleteRun | FailRun | CreateStep
"""A command on a run that exists."""

Command = CreateRun | RunCommand


def held_bytes(command: Command) -> int:
    """What the members of a command take. Text may be four times as large as it was in UTF-8."""
    return sum(_held(getattr(command, member)) for member in command.__struct_fields__)


def _held(value: Raw | str | tuple[str, ...] | None) -> int:
    if isinstance(value, Raw):
        return len(memoryview(value))
    if isinstance(value, tuple):
        return sum(map(sys.getsizeof, value))
    return 0 if value is None else sys.getsizeof(value)
