"""Rooms that the stream, or a projection, has yet to catch up with: on their way, or standing still.

Invariant: a room counts as standing still only when neither it nor its partition's checkpoint, or the relay, moved
between two looks.
"""

import asyncio
from pathlib import Path
from typing import NamedTuple

from services.projector.verify.report import Report
from services.projector.verify.rooms import Seen
from shared.contracts.ids import RoomKey
from shared.contracts.subjects import partition_of
from shared.postgres import Connection, load_queries

_SQL = load_queries(Path(__file__).parent / "sql")

MOST_ROOMS = 1000
"""Rooms looked at again, per projection."""
PATIENCE_SECONDS = 10.0
_PROJECTIONS = ("runs", "room_feed")


class _Standing(NamedTuple):
    applied_seq: int
    checkpoint: str | None


class LagCheck:
    def __init__(self, store: Connection, projections: Connection, report: Report) -> None:
        self._store = store
        self._projections = projections
        self._report = report
        self._unpublished: dict[RoomKey, int] = {}
        self._behind: dict[str, dict[RoomKey, int]] = {name: {} for name in _PROJECTIONS}

    def see(self, rooms: dict[RoomKey, Seen]) -> None:
        """Counts what is not yet published or applied in a page of rooms."""
        for key, seen in rooms.items():
            self._report.unpublished += seen.last_seq - seen.published_seq
            if seen.last_seq > seen.published_seq and len(self._unpublished) < MOST_ROOMS:
                self._unpublished[key] = seen.last_seq
            for name, behind in self._behind.items():
                lag = max(seen.published_seq - seen.applied.get(name, 0), 0)
                self._report.lag[name] = self._report.lag.get(name, 0) + lag
                if lag and name not in seen.parked and len(behind) < MOST_ROOMS:
                    behind[key] = seen.published_seq

    async def settle(self) -> None:
        """Waits for the rooms seen to lag, and reports those that do not move. Raises one of ``STORE_ERRORS``."""
        unpublished = await self._look_at_relay()
        before = {name: await self._look(name) for name in _PROJECTIONS}
        deadline = asyncio.get_running_loop().time() + PATIENCE_SECONDS
        while (self._unpublished or any(self._behind.values())) and asyncio.get_running_loop().time() < deadline:
            await asyncio.sleep(0.25)
            await self._look_at_relay()
            for name in _PROJECTIONS:
                await self._look(name)
        published = await self._look_at_relay()
        for key, seq in self._unpublished.items():
            if published[key] == unpublished[key]:
                self._report.differs(
                    key, "stream", f"published up to {published[key][0]} of {seq}, and the relay stands"
                )
        for name, behind in self._behind.items():
            after = await self._look(name)
            for key, seq in behind.items():
                if after[key] == before[name][key]:
                    self._report.differs(key, name, f"stands still at {after[key].applied_seq} of {seq}")

    async def _look_at_relay(self) -> dict[RoomKey, tuple[int, str]]:
        """Where the rooms yet to be published stand, and the relay; those that are published are let go."""
        keys = list(self._unpublished)
        if not keys:
            return {}
        rows = await self._store.fetch(
            _SQL["unpublished_of"], [key.workspace_id for key in keys], [key.room_id for key in keys]
        )
        found = {RoomKey(row["workspace_id"], row["room_id"]): (row["published_seq"], row["relay"]) for row in rows}
        for key, (published_seq, _) in found.items():
            if published_seq >= self._unpublished[key]:
                del self._unpublished[key]
        return found

    async def _look(self, name: str) -> dict[RoomKey, _Standing]:
        """Where the rooms still behind stand; those that have caught up are let go."""
        behind = self._behind[name]
        if not behind:
            return {}
        rows = await self._projections.fetch(
            _SQL["standing"],
            name,
            [key.workspace_id for key in behind],
            [key.room_id for key in behind],
            [partition_of(*key) for key in behind],
        )
        found: dict[RoomKey, _Standing] = {}
        for row in rows:
            key = RoomKey(row["workspace_id"], row["room_id"])
            found[key] = _Standing(row["applied_seq"], row["checkpoint"])
            if row["applied_seq"] >= behind[key]:
                del behind[key]
        return found
