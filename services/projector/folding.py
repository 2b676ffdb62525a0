"""Folding a batch in turns.

Invariant: however large a batch is and whatever its events are full of, others have their turn every few milliseconds:
leases are lost by who does not see to them, and whoever takes them over has the same batch before it.
"""

import asyncio
from collections.abc import Iterable, Iterator

from services.projector.projections.base import Projection, Recorded, RoomEvents, Write

TURN_BYTES = 64 * 1024
"""Of envelopes: 10 ms where they are full of the numbers that take longest to read."""


async def fold_in_turns(projection: Projection, rooms: Iterable[RoomEvents]) -> list[Write]:
    """As ``fold``. A single event is folded in one turn, whatever its size."""
    changes = projection.changes()
    size = 0
    for room in rooms:
        for part, part_size in _parts(room):
            changes.add(part)
            size += part_size
            if size >= TURN_BYTES:
                size = 0
                await asyncio.sleep(0)
    return changes.writes()


def _parts(room: RoomEvents) -> Iterator[tuple[RoomEvents, int]]:
    """With their sizes."""
    size = sum(len(event.envelope) for event in room.events)
    if size <= TURN_BYTES:
        yield room, size
        return
    part: list[Recorded] = []
    size = 0
    for event in room.events:
        if part and size + len(event.envelope) > TURN_BYTES:
            yield RoomEvents(room.key, part), size
            part, size = [], 0
        part.append(event)
        size += len(event.envelope)
    yield RoomEvents(room.key, part), size
