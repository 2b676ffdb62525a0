"""What a comparison found, as lines of text.

Invariant: lines name rooms, positions, ids and columns, never what is in them.
"""

from collections.abc import Callable
from typing import NamedTuple

from shared.contracts.ids import RoomKey

MOST_LINES_PER_ROOM = 5
MOST_ROOMS = 1000
"""Rooms told apart; of further ones only the number of differences is counted."""
MOST_LINES = MOST_ROOMS * (MOST_LINES_PER_ROOM + 1)
"""Taken up from elsewhere."""


class CannotLookError(Exception):
    """Something that is to be compared cannot be read. The message says what."""


class Findings(NamedTuple):
    """What a comparison of some rooms, made elsewhere, found."""

    lines: list[str]
    differences: int
    rooms: int
    events: int


class Report:
    """Writes each difference as it is found, and counts. ``write`` takes one line."""

    def __init__(self, write: Callable[[str], None]) -> None:
        self._write = write
        self._rooms: dict[RoomKey, int] = {}
        self._lines_added = 0
        self.differences = 0
        self.rooms = 0
        self.events = 0
        self.messages = 0
        self.unpublished = 0
        self.skipped: dict[str, int] = {}
        """Events that each projection leaves out for good."""
        self.lag: dict[str, int] = {}
        """Events that each projection has yet to apply."""

    @property
    def all_is_well(self) -> bool:
        return self.differences == 0

    def differs(self, key: RoomKey, where: str, what: str) -> None:
        """One difference of one room; ``where`` is ``store``, ``stream`` or the name of a projection."""
        self.differences += 1
        if key not in self._rooms and len(self._rooms) >= MOST_ROOMS:
            return
        count = self._rooms[key] = self._rooms.get(key, 0) + 1
        if count <= MOST_LINES_PER_ROOM:
            self._write(f"differs  {key.workspace_id}/{key.room_id}  {where}: {what}")
        elif count == MOST_LINES_PER_ROOM + 1:
            self._write(f"differs  {key.workspace_id}/{key.room_id}  … and more")

    def add(self, findings: Findings) -> None:
        """Takes up what was found elsewhere, of rooms that nobody else looks at."""
        for line in findings.lines[: max(MOST_LINES - self._lines_added, 0)]:
            self._write(line)
        self._lines_added += len(findings.lines)
        self.differences += findings.differences
        self.rooms += findings.rooms
        self.events += findings.events

    def note(self, line: str) -> None:
        self._write(line)

    def finish(self) -> None:
        """Writes the totals."""
        lag, skipped = [
            ", ".join(f"{name} {events}" for name, events in sorted(counts.items())) or "none"
            for counts in (self.lag, self.skipped)
        ]
        self._write(f"store        {self.rooms} rooms, {self.events} events")
        self._write(f"stream       {self.messages} messages, {self.unpublished} events not yet published")
        self._write(f"projections  events yet to be applied: {lag}")
        self._write(f"projections  events left out, as skipped: {skipped}")
        if self.all_is_well:
            self._write("all is well")
        else:
            many = "at least " if len(self._rooms) >= MOST_ROOMS else ""
            self._write(f"{self.differences} differences in {many}{len(self._rooms)} rooms")
