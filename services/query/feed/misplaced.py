"""Envelopes that no room's viewers are to see, wherever they were found: counted, and said within a budget of lines."""

import structlog

from services.query.feed.frame import is_one_line
from services.query.metrics import MISPLACED
from shared.contracts.ids import RoomKey
from shared.contracts.place import is_misplaced
from shared.telemetry import LineBudget, Logger

_log: Logger = structlog.get_logger("feed")


def fault_of(envelope: bytes, room: RoomKey) -> str | None:
    """What keeps the envelope from the room's viewers, as the end of an event's name in the log; None if nothing."""
    if is_misplaced(envelope, room):
        return "of_another_room"
    return None if is_one_line(envelope) else "of_several_lines"


class Misplaced:
    """Those of one source, which has a line a second."""

    def __init__(self) -> None:
        self._lines = LineBudget(1)

    def report(self, event: str, **where: str) -> None:
        MISPLACED.inc()
        if (left_out := self._lines.take()) is not None:
            _log.error(event, **where, left_out=left_out)
