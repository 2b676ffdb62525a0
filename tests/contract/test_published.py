"""What is published is what is served: the descriptions, the events, the frames."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from .client import Workspace

DOCS = Path(__file__).parents[2] / "docs"


def read(path: str) -> dict[str, Any]:
    return json.loads((DOCS / path).read_text())


@pytest.mark.parametrize("service", ["command", "query"])
async def test_the_description_is_the_published_one(workspace: Workspace, service: str) -> None:
    base = workspace.command_url if service == "command" else workspace.query_url
    response = await workspace.http.get(f"{base}/schema/openapi.json")
    assert response.json() == read(f"openapi-{service}.json")


async def test_every_event_is_as_its_schema_and_asyncapi_say(workspace: Workspace, room: str) -> None:
    given = {"title": "Grüße", "goal": "g", "input": {"a": [1.5, None]}, "tags": ["x"], "thread_id": "t"}
    first = await workspace.running(room, **given)
    await workspace.step(first["run_id"], title="s", input={"n": 1})
    await workspace.complete(first["run_id"], summary="s", output={"n": 1})
    second = await workspace.create(room)
    last = await workspace.fail(second["run_id"], message="m", error={"code": 1})

    messages = read("asyncapi.json")["components"]["messages"]
    seen: set[str] = set()
    for event in await workspace.feed(room, last["stream_seq"]):
        seen.add(event.type)
        for schema in (
            read(f"schema/{event.type}.v{event.envelope['event_version']}.json"),
            read("schema/envelope.v1.json"),
            messages[event.type]["payload"],
        ):
            Draft202012Validator(schema).validate(event.envelope)
    assert seen == {path.name.removesuffix(".v1.json") for path in (DOCS / "schema").iterdir()} - {"envelope"}


async def test_control_frames_are_as_asyncapi_says(workspace: Workspace, room: str) -> None:
    await workspace.create(room)
    messages = read("asyncapi.json")["components"]["messages"]
    async with workspace.stream(room, from_seq=1_000_000) as stream:
        for name in ("reset", "caught-up"):
            control = await stream.control()
            assert control.name == name
            Draft202012Validator(messages[name]["payload"]).validate(control.data)
