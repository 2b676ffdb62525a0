"""What a projection is: a pure fold from events to rows, and the named statements that write them.

Invariant: a projection decides from the events alone. It never reads a clock, a database or the stream, so that any
split of the same events into batches writes the same rows.

A projection is one module here, its tables in ``services/projector/schema/``, its statements in
``services/projector/sql/``, and one line in ``services.projector.projections.PROJECTIONS``.
"""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, Protocol

from shared.contracts.ids import RoomKey


class Recorded(NamedTuple):
    """One event of a room. ``position`` is where the stream held it; 0 when it was read from the event store.

    ``traceparent`` is there when the trace that it belongs to is recorded.
    """

    stream_seq: int
    position: int
    envelope: bytes
    traceparent: str | None = None


class RoomEvents(NamedTuple):
    """Consecutive events of one room, in order, none of which was applied before."""

    key: RoomKey
    events: Sequence[Recorded]


class Write(NamedTuple):
    """One set-based statement: its name, and one list of values per parameter, all equally long.

    A statement that returns rows names in their first column what it should have written and could not, as it is not
    there, is another room's, or was there before. The batch is rolled back then.
    """

    query: str
    columns: tuple[list[Any], ...]


class Changes(Protocol):
    """What events change, gathered room by room."""

    def add(self, room: RoomEvents) -> None:
        """Raises any exception for an event that it cannot read or that makes no sense. What was before it is added."""
        ...

    def writes(self) -> list[Write]: ...


class Projection(Protocol):
    """One projection. ``name`` is that of its leases, its metrics and its progress messages.

    ``schema`` is raised with every change of its tables: statements fit the tables of one schema alone.
    """

    @property
    def name(self) -> str: ...

    @property
    def schema(self) -> int: ...

    def changes(self) -> Changes:
        """Of no event yet."""
        ...


def fold(projection: Projection, rooms: Iterable[RoomEvents]) -> list[Write]:
    """What the events change. Raises what ``Changes.add`` raises."""
    changes = projection.changes()
    for room in rooms:
        changes.add(room)
    return changes.writes()
