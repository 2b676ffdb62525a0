"""Locking the rooms of a batch, and loading what its decisions need.

Invariant: what is loaded of a room is loaded under its lock. A room that somebody else keeps locked is not waited for
again and again: for a while it is locked only if it happens to be free.
"""

import time
from collections.abc import Collection, Sequence

import structlog

from services.command import event_store
from services.command.domain.batch import Loaded, Request
from services.command.domain.commands import CreateRun
from services.command.run_rooms import RunRooms
from shared.contracts.ids import RoomKey
from shared.postgres import Connection
from shared.telemetry import Logger

_BUSY_SECONDS = 5.0


class Loader:
    """``run_rooms`` remembers where runs are. Every method raises one of ``STORE_ERRORS``."""

    def __init__(self, run_rooms: RunRooms) -> None:
        self._run_rooms = run_rooms
        self._busy: dict[RoomKey, float] = {}
        """Rooms that somebody else keeps locked, until when they are not waited for (monotonic seconds)."""
        self._log: Logger = structlog.get_logger("loader")

    async def rooms_of(self, connection: Connection, requests: Sequence[Request]) -> list[RoomKey | None]:
        """The room each command is about; None for a run that the caller may not see."""
        located = await self._locate(connection, _run_ids(requests))
        rooms: list[RoomKey | None] = []
        for caller, command, *_ in requests:
            if isinstance(command, CreateRun):
                rooms.append(RoomKey(caller.workspace_id, command.room_id))
            else:
                room = located.get(command.run_id)
                rooms.append(room if room and caller.may_see(room) else None)
        return rooms

    def place_of(self, request: Request) -> dict[str, str | None]:
        """The room a command is about, as far as it is remembered, and the run if it names one: for the log."""
        if isinstance(request.command, CreateRun):
            return {"workspace_id": request.caller.workspace_id, "room_id": request.command.room_id}
        room = self._run_rooms.get(request.command.run_id)
        return {
            "workspace_id": request.caller.workspace_id,
            "room_id": room.room_id if room else None,
            "run_id": request.command.run_id,
        }

    async def lock(self, connection: Connection, rooms: set[RoomKey]) -> dict[RoomKey, int]:
        """Locks the rooms, but for busy ones that are still busy, and gives their last stream_seq."""
        now = time.monotonic()
        busy = {room for room in rooms if self._busy.get(room, now) > now}
        locked = await event_store.lock_rooms(connection, rooms - busy)
        if busy:
            locked |= await event_store.lock_free_rooms(connection, busy)
        for room in self._busy.keys() & locked.keys():
            del self._busy[room]
        return locked

    async def find_busy(self, connection: Connection, rooms: set[RoomKey]) -> None:
        """Looks which of the rooms it was that could not be locked in time."""
        busy = await event_store.find_busy_rooms(connection, rooms)
        self._log.warning("rooms_busy", rooms=len(busy))
        now = time.monotonic()
        self._busy = {room: until for room, until in self._busy.items() if until > now}
        self._busy |= dict.fromkeys(busy, now + _BUSY_SECONDS)

    async def load(self, connection: Connection, requests: Collection[Request], locked: dict[RoomKey, int]) -> Loaded:
        """The state that the commands are decided on."""
        run_ids = _run_ids(requests)
        keys = {key for request in requests if (key := request.key_id)}
        runs = await event_store.load_runs(connection, run_ids) if run_ids else {}
        outcomes = await event_store.load_outcomes(connection, keys) if keys else {}
        return Loaded(dict(locked), runs, outcomes)

    async def _locate(self, connection: Connection, run_ids: set[str]) -> dict[str, RoomKey]:
        located = {run_id: room for run_id in run_ids if (room := self._run_rooms.get(run_id))}
        if missing := run_ids - located.keys():
            found = await event_store.locate_runs(connection, missing)
            for run_id, room in found.items():
                self._run_rooms.add(run_id, room)
            located |= found
        return located


def _run_ids(requests: Collection[Request]) -> set[str]:
    return {request.command.run_id for request in requests if not isinstance(request.command, CreateRun)}
