"""What operators see of callers who are not let in: how many by error, and a line that says why, without the token."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from .deployment import AUDIENCE, Guarded, bearer

PATIENCE = 10.0


async def refusals(guarded: Guarded, service: str) -> dict[str, float]:
    answer = await guarded.http.get(f"{guarded.url(service)}/metrics")
    return {
        sample.labels["error"]: sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
        if sample.name == "runroom_auth_refusals_total"
    }


async def line(guarded: Guarded, service: str, request_id: str) -> dict[str, Any]:
    """The one about this request's caller, once it is in the log."""
    log = guarded.logs / f"{service}.log"
    async with asyncio.timeout(PATIENCE):
        while True:
            logged = [json.loads(text) for text in log.read_text().splitlines() if request_id in text]
            if found := [one for one in logged if one["event"] == "caller_refused"]:
                return found[0]
            await asyncio.sleep(0.05)


async def test_every_refusal_is_counted_and_says_why(guarded: Guarded) -> None:
    before = await refusals(guarded, "query")
    cases: dict[str, tuple[dict[str, str], str, str]] = {
        "none": ({}, "missing_token", "Authorization"),
        "expired": (bearer(guarded.token(exp=1)), "invalid_token", "expired"),
        "elsewhere": (bearer(guarded.token(aud="elsewhere")), "invalid_token", "not for this service"),
        "write": (bearer(guarded.token(scope="runs:write")), "insufficient_scope", "runs:read"),
    }
    for name, (headers, error, reason) in cases.items():
        request_id = f"refused-{name}"
        headers = {**headers, "x-request-id": request_id}
        answer = await guarded.http.get(f"{guarded.query_url}/v1/runs", headers=headers)
        assert answer.json()["error"] == error
        logged = await line(guarded, "query", request_id)
        assert (logged["error"], logged["status"]) == (error, answer.status_code)
        assert reason in logged["reason"]
        assert logged.get("actor_id") == ("tester" if error == "insufficient_scope" else None)
        assert not [token for token in guarded.sent if token in json.dumps(logged)]
    after = await refusals(guarded, "query")
    told = {error: after[error] - before[error] for error in after}
    assert told == {"missing_token": 1, "invalid_token": 2, "insufficient_scope": 1, "keys_unavailable": 0}


async def test_who_was_known_and_not_allowed_is_named(guarded: Guarded) -> None:
    workspace = guarded.workspace("ws_named", sub="somebody", rooms=["theirs"], aud=AUDIENCE)
    headers = {**workspace.credentials, "x-request-id": "refused-room"}
    answer = await guarded.http.post(f"{guarded.command_url}/v1/runs", json={"room_id": "other"}, headers=headers)
    assert answer.status_code == 403
    logged = await line(guarded, "command", "refused-room")
    assert (logged["workspace_id"], logged["actor_id"]) == ("ws_named", "somebody")
