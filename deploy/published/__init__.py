"""The published contract, made from the types: OpenAPI, JSON Schema and AsyncAPI.

Invariant: what lies in ``docs/`` is what ``documents`` gives; ``make docs`` writes it, a test compares. Nothing that is
published is written by hand there.
"""

import json
from collections.abc import Mapping
from typing import Any

from deploy.published.asyncapi import asyncapi
from deploy.published.events import envelope_schema, event_schemas
from deploy.published.openapi import command_document, query_document


def documents() -> dict[str, str]:
    """The text of each document, by its path below ``docs/``."""
    schemas = {f"schema/{name}.json": schema for name, schema in event_schemas().items()}
    written: Mapping[str, Any] = {
        "openapi-command.json": command_document(),
        "openapi-query.json": query_document(),
        "asyncapi.json": asyncapi(),
        "schema/envelope.v1.json": envelope_schema(),
        **schemas,
    }
    return {path: json.dumps(document, indent=2, ensure_ascii=False) + "\n" for path, document in written.items()}
