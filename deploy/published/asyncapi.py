"""The AsyncAPI 3 document: the stream that services read events from, and the channel that viewers follow rooms on."""

from typing import Any

import msgspec

from deploy.published.events import event_schema, example_of
from services.query.feed.frame import BUSY_RETRY_MS, Busy, CaughtUp, Reset
from services.query.http.parameters import MOST_SEQ
from shared.contracts.events import EVENT_CLASSES, Event
from shared.contracts.forms import StreamSeq
from shared.contracts.subjects import (
    HEADER_EVENT_ID,
    HEADER_EVENT_TYPE,
    HEADER_STREAM_SEQ,
    HEADER_TRACEPARENT,
    PARTITIONS,
    STREAM,
    room_subject,
)
from shared.http.openapi import VERSION

Json = dict[str, Any]

_CONTROLS: dict[str, tuple[Any, Any]] = {
    "caught-up": (CaughtUp, CaughtUp(3)),
    "reset": (Reset, Reset("history_trimmed", 2, 3)),
    "busy": (Busy, Busy("room")),
}
_IDS: Json = {"description": "1-128 of A-Z a-z 0-9 _ -."}


def asyncapi() -> Json:
    messages: Json = {str(cls.__struct_config__.tag): _event_message(cls) for cls in EVENT_CLASSES}
    controls = {name: _control_message(name, *of) for name, of in _CONTROLS.items()} | {
        "retry": {
            "name": "retry",
            "summary": "How long a browser waits before it connects again; the first line of a stream.",
            "contentType": "text/event-stream",
            "payload": {"type": "string", "pattern": "^retry: [0-9]+\\n\\n$"},
            "examples": [{"payload": f"retry: {BUSY_RETRY_MS}\n\n"}],
        },
        "heartbeat": {
            "name": "heartbeat",
            "summary": "A comment, at least every 15 s.",
            "contentType": "text/event-stream",
            "payload": {"type": "string", "const": ":\n\n"},
            "examples": [{"payload": ":\n\n"}],
        },
    }
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Runroom events",
            "version": VERSION,
            "description": "Every event of a room, on the stream between the services and live to those who watch. The "
            "bytes are the same in both places, and those of the event store.",
        },
        "defaultContentType": "application/json",
        "channels": {"rooms": _stream_channel(messages), "room": _viewer_channel([*messages, *controls])},
        "operations": {
            "publishEvents": {
                "action": "send",
                "channel": {"$ref": "#/channels/rooms"},
                "summary": "The relay of the command service, the stream's only publisher: every committed event once, "
                "those of a room in stream_seq order.",
            },
            "sendFrames": {
                "action": "send",
                "channel": {"$ref": "#/channels/room"},
                "summary": "The query service, to everybody who watches the room.",
            },
        },
        "components": {"messages": messages | controls},
    }


def _event_message(cls: type[Event]) -> Json:
    example = example_of(cls)
    headers = {
        HEADER_EVENT_ID: example["event_id"],
        HEADER_EVENT_TYPE: example["event_type"],
        HEADER_STREAM_SEQ: str(example["stream_seq"]),
    }
    schema = event_schema(cls)
    schema.pop("examples")
    return {
        "name": schema["title"],
        "title": schema["title"],
        "contentType": "application/json",
        "headers": {
            "type": "object",
            "description": "On the stream alone.",
            "required": list(headers),
            "properties": {
                HEADER_EVENT_ID: {"type": "string", "format": "uuid", "description": "event_id"},
                HEADER_EVENT_TYPE: {"type": "string", "const": example["event_type"]},
                HEADER_STREAM_SEQ: {"type": "string", "pattern": "^[1-9][0-9]{0,17}$", "description": "stream_seq"},
                HEADER_TRACEPARENT: {
                    "type": "string",
                    "description": "W3C trace context of the command, if it had one.",
                },
            },
        },
        "payload": schema,
        "examples": [{"name": "example", "headers": headers, "payload": example}],
    }


def _control_message(name: str, cls: Any, example: Any) -> Json:
    schema: Json = msgspec.json.schema_components([cls])[1][cls.__name__]
    summary = schema.pop("description")
    return {
        "name": name,
        "summary": summary.replace("``", "`"),
        "contentType": "application/json",
        "payload": schema,
        "examples": [{"name": "example", "payload": msgspec.to_builtins(example)}],
    }


def _references(names: list[str]) -> Json:
    return {name: {"$ref": f"#/components/messages/{name}"} for name in names}


def _stream_channel(messages: Json) -> Json:
    return {
        "address": "rooms.{partition}.{workspace_id}.{room_id}",
        "title": f"The JetStream stream {STREAM}",
        "description": f"One subject for each room, such as {room_subject('ws_dev', 'lobby')}. The partition is "
        f"FNV-1a (32 bit) of `workspace_id.room_id`, modulo {PARTITIONS}. Readers keep the position "
        "of the stream and, for each room, the stream_seq, which says what was seen before and what is missing.",
        "messages": _references(list(messages)),
        "parameters": {
            "partition": {"description": f"0 to {PARTITIONS - 1}."},
            "workspace_id": _IDS,
            "room_id": _IDS,
        },
    }


def _viewer_channel(messages: list[str]) -> Json:
    position: Json = msgspec.json.schema(StreamSeq)
    return {
        "address": "/v1/streams/rooms/{room_id}",
        "title": "A room, as server-sent events",
        "description": "GET of the query service. An event is an unnamed frame: `id: <stream_seq>`, `data: <the "
        "payload in one line>`. A control frame is `event: <name>`, `data: <the payload>`, without an id. `retry` and "
        "the heartbeat are lines of their own.",
        "messages": _references(messages),
        "parameters": {"room_id": _IDS},
        "bindings": {
            "ws": {
                "method": "GET",
                "query": {
                    "type": "object",
                    "properties": {
                        "from_seq": {
                            "description": "Events after this stream_seq; `latest` is the room's head.",
                            "oneOf": [{**position, "minimum": 0, "maximum": MOST_SEQ}, {"const": "latest"}],
                        }
                    },
                },
            }
        },
    }
