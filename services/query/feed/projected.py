"""A room's history as the projection ``room_feed`` holds it.

Invariant: a page is what one snapshot held, in order. A projection that is away is ``ProjectionAwayError`` and is asked
again only after a pause, so that nobody queues behind a dead database.
"""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

import asyncpg

from services.query.feed.entry import Entry
from services.query.feed.frame import is_one_line
from services.query.feed.misplaced import Misplaced
from services.query.metrics import HISTORY_READS
from shared.contracts.ids import RoomKey
from shared.postgres import STORE_ERRORS, Pool, load_queries

_SQL: Final = load_queries(Path(__file__).parents[1] / "sql")
_PAUSE_SECONDS = 1.0
_ANSWER_SECONDS = 5.0

_misplaced = Misplaced()


class ProjectionAwayError(Exception):
    """PostgreSQL is away, or did not answer in time."""


class ProjectedHead(NamedTuple):
    """``first_seq`` is the oldest event still held, None when there is none; ``head_seq`` the last one applied."""

    first_seq: int | None
    head_seq: int


class ProjectedPage(NamedTuple):
    """``entries`` are all the events after the position asked for that fit, holes included; what is no line is one.

    ``position`` is where the stream holds the event at that position, 0 when the projection does not say.
    """

    position: int
    entries: list[Entry]


class ProjectedFeed:
    """Every method raises ``ProjectionAwayError``."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._away_until = 0.0

    async def heads(self, keys: Sequence[RoomKey]) -> dict[RoomKey, ProjectedHead]:
        """What is held of each of the rooms."""
        rows = await self._fetch("feed_heads", [key.workspace_id for key in keys], [key.room_id for key in keys])
        return {RoomKey(row[0], row[1]): ProjectedHead(row[2], row[3]) for row in rows}

    async def page(self, key: RoomKey, after: int, most_events: int, most_bytes: int) -> ProjectedPage:
        """Events after the position: up to ``most_events``, and no more once ``most_bytes`` are reached."""
        HISTORY_READS.labels("projection").inc()
        # One row more: the event at the position itself.
        rows = await self._fetch("feed_page", key.workspace_id, key.room_id, after, most_events + 1, most_bytes)
        # Their places in the stream are left out: who goes on from here finds the last one's above, next time.
        entries = [Entry(row[0], 0, row[2]) for row in rows if row[0] > after and _fits(row[2], key)]
        position = rows[0][1] if rows and rows[0][0] == after else 0
        return ProjectedPage(position, entries[:most_events])

    async def _fetch(self, name: str, *values: object) -> list[asyncpg.Record]:
        if time.monotonic() < self._away_until:
            raise ProjectionAwayError("away a moment ago")
        try:
            return await self._pool.fetch(_SQL[name], *values, timeout=_ANSWER_SECONDS)
        except STORE_ERRORS as error:
            self._away_until = time.monotonic() + _PAUSE_SECONDS
            raise ProjectionAwayError(type(error).__name__) from error


def _fits(envelope: bytes, key: RoomKey) -> bool:
    if is_one_line(envelope):
        return True
    _misplaced.report("projected_event_of_several_lines", **key._asdict())
    return False
