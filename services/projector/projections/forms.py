"""The forms that a projection takes an event's members in. Pure.

Invariant: what passes is as the contract says, so that tables and indexes can hold it and readers get it back. Services
write nothing else; whoever has got hold of the event store's password may
(docs/decisions/0045-the-store-checks-forms.md). What a later event of the same batch may take the place of is looked at
here, each time, as PostgreSQL does not see it then.
"""

import re

from shared.contracts.events import Event, RunCompleted, RunCreated, StepCreated
from shared.contracts.forms import MAX_TAG, MAX_TAGS, UUID_PATTERN
from shared.contracts.ids import CORRELATION_ID_MAX
from shared.contracts.times import is_time

MAX_ID = 128
"""Characters of an id, whoever gave it."""
MAX_TEXT = 2 * 1024 * 1024
MAX_JSON = 8 * 1024 * 1024 - 4
"""Bytes, as the tables have it: four are of PostgreSQL."""
FIRST_YEAR, LAST_YEAR = "2000", "2999"
"""As the tables have it, in UTC."""

_is_uuid = re.compile(UUID_PATTERN).fullmatch


class FormError(ValueError):
    """A member of the event has a form that no service writes. The message names the member and does not quote it."""


def check_forms(event: Event) -> None:
    """Raises ``FormError``. Takes less than 1 µs."""
    # PostgreSQL takes much else for a time: "now", and some that no client can read back.
    if not is_time(event.occurred_at):
        raise FormError("occurred_at is no RFC 3339 UTC time with microseconds and Z")
    if not FIRST_YEAR <= event.occurred_at[:4] <= LAST_YEAR:
        raise FormError(f"occurred_at is not of the years {FIRST_YEAR}-{LAST_YEAR}")
    if not _is_uuid(event.event_id):
        raise FormError("event_id is no UUID")
    for name, value in (("run_id", event.run_id), ("step_id", event.step_id), ("thread_id", event.thread_id)):
        if value is not None and len(value) > MAX_ID:
            raise FormError(f"{name} is longer than {MAX_ID} characters")
    if not 0 < len(event.correlation_id) <= CORRELATION_ID_MAX:
        raise FormError(f"correlation_id is not of 1-{CORRELATION_ID_MAX} characters")
    if isinstance(event, StepCreated) and len(event.data.step_id) > MAX_ID:
        raise FormError(f"step_id is longer than {MAX_ID} characters")
    if isinstance(event, RunCreated) and event.data.tags:
        tags = event.data.tags
        if len(tags) > MAX_TAGS:
            raise FormError(f"{len(tags)} tags are more than {MAX_TAGS}")
        if not all(0 < len(tag) <= MAX_TAG for tag in tags):
            raise FormError(f"a tag is not of 1-{MAX_TAG} characters")
    if isinstance(event, RunCompleted) and event.data.summary:
        summary = event.data.summary
        if "\0" in summary or len(summary.encode()) > MAX_TEXT:
            raise FormError(f"summary has a NUL, or more than {MAX_TEXT} bytes")


def check_json(text: bytes) -> None:
    """Raises ``FormError`` for JSON that is too long once it is written again."""
    if len(text) > MAX_JSON:
        raise FormError(f"JSON of {len(text)} bytes is more than {MAX_JSON}")
