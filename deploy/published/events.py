"""A JSON Schema (2020-12) for each type and version of event, and one for the envelope they share.

A schema says what is written, not what a reader has to insist on: members may be added to ``data`` and to the envelope
without a new version.
"""

from typing import Any

import msgspec

from shared.contracts.events import EVENT_CLASSES, Envelope, Event, event_type_of
from shared.contracts.examples import EXAMPLES
from shared.contracts.upcasting import version_of

Json = dict[str, Any]

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def event_schemas() -> dict[str, Json]:
    """The schemas by name, such as ``run.created.v1``, each complete in itself."""
    return {_name(cls): _published(_name(cls), event_schema(cls)) for cls in EVENT_CLASSES}


def event_schema(cls: type[Event]) -> Json:
    """The envelope with the data of one type in it. Without references."""
    components = msgspec.json.schema_components([cls])[1]
    schema = components[cls.__name__]
    data = components[f"{cls.__name__}Data"]
    data.pop("title", None)
    properties: Json = {**schema["properties"], "data": data}
    properties["event_type"] = {"const": cls.__struct_config__.tag}
    properties["event_version"] = {"const": version_of(cls)}
    is_of_step = "step_id" in data["properties"]
    properties["step_id"] = properties["step_id"]["anyOf"][0] if is_of_step else {"type": "null"}
    examples = [msgspec.to_builtins(event) for event in EXAMPLES if type(event) is cls]
    return _whole(str(cls.__struct_config__.tag), properties) | {"examples": examples}


def envelope_schema() -> Json:
    """What every event has, whatever its type."""
    properties: Json = msgspec.json.schema_components([Envelope])[1]["Envelope"]["properties"]
    properties["event_type"] = {"type": "string", "description": "What happened, such as `run.created`."}
    properties["event_version"] = {"type": "integer", "minimum": 1, "description": "Says what `data` means."}
    properties["data"] = {"type": "object", "description": "What the type and its version say."}
    return _published("envelope.v1", _whole("envelope", properties))


def _whole(title: str, properties: Json) -> Json:
    for member in properties.values():
        if "default" in member:  # a default is for who makes an event in Python; on the wire every member is there
            del member["default"]
    return {"title": title, "type": "object", "required": list(properties), "properties": properties}


def _published(name: str, schema: Json) -> Json:
    return {"$schema": DIALECT, "$id": f"urn:runroom:schema:{name}", **schema}


def _name(cls: type[Event]) -> str:
    return f"{cls.__struct_config__.tag}.v{version_of(cls)}"


def example_of(cls: type[Event]) -> Json:
    """An event of the type, as JSON."""
    return next(msgspec.to_builtins(event) for event in EXAMPLES if event_type_of(event) == cls.__struct_config__.tag)
