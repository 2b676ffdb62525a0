"""The published documents are those the types make, valid, and true to what they show."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from jsonschema import Draft7Validator, Draft202012Validator
from openapi_spec_validator import OpenAPIV31SpecValidator

from deploy.published import documents
from deploy.published.events import event_schemas
from services.query.feed import frame
from shared.contracts.events import EVENT_CLASSES
from shared.http.errors import ERRORS

REPOSITORY = Path(__file__).parents[2]
DOCS = REPOSITORY / "docs"
ASYNCAPI_3 = json.loads((REPOSITORY / "tests/data/asyncapi-3.0.0.json").read_text())

MADE = documents()
SERVICES = ("openapi-command.json", "openapi-query.json")
Json = dict[str, Any]


def read(path: str) -> Json:
    return json.loads((DOCS / path).read_text())


@pytest.mark.parametrize("path", MADE)
def test_what_is_committed_is_what_the_types_make(path: str) -> None:
    committed = (DOCS / path).read_text() if (DOCS / path).exists() else "nothing"
    if committed != MADE[path]:
        pytest.fail(f"docs/{path} is not what the code says: run `make docs` and commit what it changes")


def test_nothing_is_left_of_what_is_no_longer_made() -> None:
    assert {f"schema/{path.name}" for path in (DOCS / "schema").iterdir()} == {p for p in MADE if "/" in p}


# OpenAPI


@pytest.mark.parametrize("path", SERVICES)
def test_openapi_is_valid(path: str) -> None:
    OpenAPIV31SpecValidator(read(path)).validate()


def operations(document: Json) -> Iterator[tuple[str, Json]]:
    for item in document["paths"].values():
        for operation in item.values():
            yield operation["operationId"], operation


def contents(operation: Json) -> Iterator[tuple[str, Json]]:
    if "requestBody" in operation:
        yield from (("body", media) for media in operation["requestBody"]["content"].values())
    for status, response in operation["responses"].items():
        yield from ((status, media) for media in response.get("content", {}).values())


@pytest.mark.parametrize("path", SERVICES)
def test_every_body_answer_and_parameter_has_a_true_example(path: str) -> None:
    document = read(path)
    for name, operation in operations(document):
        for where, media in contents(operation):
            schema = {**media["schema"], "components": document["components"]}
            assert media["examples"], f"{name} {where}"
            for example in media["examples"].values():
                Draft202012Validator(schema).validate(example["value"])
        for parameter in operation.get("parameters", []):
            assert parameter["description"]
            if "example" in parameter and parameter["schema"].get("type") != "integer":
                Draft202012Validator(parameter["schema"]).validate(parameter["example"])


@pytest.mark.parametrize("path", SERVICES)
def test_every_refusal_says_its_codes(path: str) -> None:
    for name, operation in operations(read(path)):
        if name.startswith("Readyz"):
            continue
        for status, response in operation["responses"].items():
            if status < "400":
                continue
            (media,) = [response["content"]["application/problem+json"]]
            codes = media["schema"]["properties"]["error"]["enum"]
            assert set(media["examples"]) == set(codes)
            assert {ERRORS[code].status for code in codes} == {int(status)}, f"{name} {status}"
            assert ("Retry-After" in response.get("headers", {})) == any(ERRORS[code].retry_after for code in codes)


def test_the_contract_names_every_error() -> None:
    section = (DOCS / "contract.md").read_text().split("## Errors")[1].split("\n## ")[0]
    rows = "".join(line for line in section.splitlines() if line.startswith("|"))
    named = set(re.findall(r"`([a-z_]+)`", rows)) - {"error"}
    assert named | {"internal_error"} == set(ERRORS)


# JSON Schema


@pytest.mark.parametrize("name", [*event_schemas(), "envelope.v1"])
def test_an_event_schema_is_valid(name: str) -> None:
    Draft202012Validator.check_schema(read(f"schema/{name}.json"))


@pytest.mark.parametrize("golden", sorted((REPOSITORY / "tests/golden").iterdir()), ids=lambda path: path.stem)
def test_golden_events_are_as_their_schema_says(golden: Path) -> None:
    event = json.loads(golden.read_bytes())
    Draft202012Validator(read(f"schema/{golden.name}")).validate(event)
    Draft202012Validator(read("schema/envelope.v1.json")).validate(event)
    for member in event:
        assert not valid({name: value for name, value in event.items() if name != member}, golden.name), member
    assert not valid(event | {"stream_seq": "1"}, golden.name)
    assert not valid(event | {"room_id": "a.b"}, golden.name)
    assert not valid(event | {"event_version": 2}, golden.name)
    assert valid(event | {"data": event["data"] | {"later": 1}, "later": 1}, golden.name)


def valid(event: Json, name: str) -> bool:
    return Draft202012Validator(read(f"schema/{name}")).is_valid(event)


# AsyncAPI


def test_asyncapi_is_valid() -> None:
    Draft7Validator(ASYNCAPI_3).validate(read("asyncapi.json"))
    with pytest.raises(jsonschema.ValidationError):
        Draft7Validator(ASYNCAPI_3).validate({**read("asyncapi.json"), "channels": {"rooms": {"address": 1}}})


def test_asyncapi_has_every_event_and_every_frame_with_true_examples() -> None:
    document = read("asyncapi.json")
    messages = document["components"]["messages"]
    events = {str(cls.__struct_config__.tag) for cls in EVENT_CLASSES}
    controls = {"caught-up", "reset", "busy", "retry", "heartbeat"}
    assert set(messages) == events | controls
    assert set(document["channels"]["rooms"]["messages"]) == events
    assert set(document["channels"]["room"]["messages"]) == events | controls
    for message in messages.values():
        for example in message["examples"]:
            Draft202012Validator(message["payload"]).validate(example["payload"])
            if "headers" in message:
                Draft202012Validator(message["headers"]).validate(example["headers"])


@pytest.mark.parametrize(
    ("name", "sent"),
    [
        ("caught-up", frame.caught_up_frame(0)),
        ("reset", frame.reset_frame("cursor_ahead", 1, 0)),
        ("reset", frame.reset_frame("history_trimmed", 4, 9)),
        *(("busy", frame.busy_frame(limit)) for limit in ("process", "room", "shutdown")),
    ],
)
def test_control_frames_are_as_asyncapi_says(name: str, sent: bytes) -> None:
    event, data, *_ = sent.decode().split("\n")
    assert event == f"event: {name}"
    payload = read("asyncapi.json")["components"]["messages"][name]["payload"]
    Draft202012Validator(payload).validate(json.loads(data.removeprefix("data: ")))
    assert not Draft202012Validator(payload).is_valid({})
