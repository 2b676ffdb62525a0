"""The shapes the contract names, and the checks that hold an answer against them.

One place for each shape, so that a test says what happened and this module says what every answer of that sort owes.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

import httpx

if TYPE_CHECKING:
    from .sse import Event

ENVELOPE = {
    "event_id", "event_type", "event_version", "occurred_at", "recorded_at", "workspace_id", "room_id", "thread_id",
    "run_id", "step_id", "actor_type", "actor_id", "stream_type", "stream_id", "stream_seq", "correlation_id",
    "causation_id", "data",
}  # fmt: skip
RUN = {
    "run_id", "workspace_id", "room_id", "thread_id", "status", "title", "goal", "input", "output", "error", "summary",
    "tags", "created_at", "started_at", "ended_at", "updated_at", "correlation_id", "last_event_id", "stream_seq",
}  # fmt: skip
STEP = {
    "step_id", "run_id", "workspace_id", "room_id", "thread_id", "kind", "status", "title", "input", "output", "error",
    "created_at", "updated_at", "last_event_id", "stream_seq",
}  # fmt: skip
ANSWER = {"ok", "run_id", "event_id", "room_id", "stream_seq", "correlation_id"}
PROBLEM = {"type", "title", "status", "detail", "instance", "error"}

BASE32 = "0123456789abcdefghjkmnpqrstvwxyz"
INSTANT = re.compile(r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}\.\d{6}Z")


def typeid(text: str, prefix: str) -> UUID:
    """Return the UUIDv7 inside a TypeID of the given prefix."""
    found, _, suffix = text.rpartition("_")
    assert found == prefix, f"{text} is no {prefix} id"
    assert re.fullmatch(f"[0-7][{BASE32}]{{25}}", suffix), f"{text} is no TypeID"
    number = 0
    for letter in suffix:
        number = number * 32 + BASE32.index(letter)
    inside = UUID(int=number)
    assert inside.version == 7, f"{text} holds no UUIDv7"
    return inside


def typeid_of(number: UUID, prefix: str) -> str:
    """Return the TypeID of a UUID."""
    return f"{prefix}_" + "".join(BASE32[number.int >> shift & 31] for shift in range(125, -1, -5))


def nobodys(prefix: str) -> str:
    """Return an id that was never minted, yet looks as if."""
    random = secrets.randbits(128)
    return typeid_of(UUID(int=random & ~(0xF << 76) & ~(3 << 62) | 7 << 76 | 2 << 62), prefix)


def instant(text: str) -> datetime:
    """Return a time of a read, which is RFC 3339 in UTC."""
    when = datetime.fromisoformat(text)
    assert when.utcoffset() == timedelta(0), f"{text} is not UTC"
    return when.astimezone(UTC)


def accepted(response: httpx.Response, status: int, *, step: bool = False) -> dict[str, Any]:
    """Return the success body of a command, every member checked."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"].startswith("application/json")
    body: dict[str, Any] = response.json()
    assert body.keys() == ANSWER | ({"step_id"} if step else set())
    assert body["ok"] is True
    assert UUID(body["event_id"]).version == 7
    minted = [typeid(body["run_id"], "run")] + ([typeid(body["step_id"], "step")] if step else [])
    assert UUID(body["event_id"]) not in minted, "an event id is never a run's or a step's"
    assert type(body["stream_seq"]) is int
    assert body["stream_seq"] >= 1
    assert body["correlation_id"]
    return body


def problem(response: httpx.Response, status: int, *codes: str) -> dict[str, Any]:
    """Return the body of a refusal: the status, one of the codes, and every member of the problem format."""
    assert response.status_code == status, f"{response.status_code} {response.text[:500]}"
    assert response.headers["content-type"].partition(";")[0].strip() == "application/problem+json"
    body: dict[str, Any] = response.json()
    assert body.keys() >= PROBLEM
    assert body["error"] in codes
    assert body["status"] == status
    for member in ("type", "title", "detail", "instance"):
        assert isinstance(body[member], str), member
        assert body[member], member
    return body


def page(response: httpx.Response, rows: str) -> dict[str, Any]:
    """Return a page of a list, rows and cursor checked."""
    assert response.status_code == 200, response.text
    body: dict[str, Any] = response.json()
    assert body.keys() == {rows, "next_cursor"}
    assert body["next_cursor"] is None or isinstance(body["next_cursor"], str)
    for row in body[rows]:
        assert row.keys() == (RUN if rows == "runs" else STEP)
    return body


def envelope(event: Event, workspace_id: str, room_id: str) -> None:
    """Hold one event against the envelope of the contract."""
    body = event.envelope
    assert body.keys() == ENVELOPE
    assert UUID(body["event_id"]).version == 7
    assert body["event_version"] == 1
    assert INSTANT.fullmatch(body["occurred_at"]), body["occurred_at"]
    assert INSTANT.fullmatch(body["recorded_at"]), body["recorded_at"]
    assert (body["workspace_id"], body["room_id"]) == (workspace_id, room_id)
    assert (body["stream_type"], body["stream_id"]) == ("room", room_id)
    assert type(body["stream_seq"]) is int
    assert body["stream_seq"] == event.seq
    own = "step_id" if body["event_type"].startswith("step.") else "run_id"
    assert body["data"][own] == body[own]
    assert (own == "step_id") == (body["step_id"] is not None)
    assert body["actor_type"] in {"service", "user", "agent"}
    minted = [typeid(body["run_id"], "run")] + ([typeid(body["step_id"], "step")] if body["step_id"] else [])
    assert UUID(body["event_id"]) not in minted


def gapless(events: Iterable[Event], first: int = 1) -> None:
    """The events stand in order from position `first`, without a hole or a repetition."""
    seqs = [event.seq for event in events]
    assert seqs == list(range(first, first + len(seqs)))


def one_chain(events: Iterable[Event]) -> None:
    """Each event of a run is caused by the run's event before it, and carries the run's correlation id."""
    last: dict[str, Event] = {}
    for event in events:
        before = last.get(event.run_id)
        if before is None:
            assert event.type == "run.created"
        else:
            assert event.envelope["causation_id"] == before.event_id
            assert event.envelope["correlation_id"] == before.envelope["correlation_id"]
        last[event.run_id] = event
