"""What this process knows of the rooms it wrote to last: as good as loaded, while nobody else writes to them.

Invariant: what is known of a room is its state at ``last_seq``, whole for the runs it names. Whether the room still is
there is for the statement that writes to say, never for this cache.
"""

from collections import OrderedDict
from collections.abc import Iterable
from typing import NamedTuple

from services.command.domain.run import RunState
from shared.contracts.ids import RoomKey

_MOST_ROOMS = 50_000
_MOST_RUNS = 50_000
_SHARED_SECONDS = 1.0
"""How long a room that somebody else wrote to is not remembered."""


class KnownState(NamedTuple):
    """Rooms with their last stream_seq, and runs."""

    rooms: dict[RoomKey, int]
    runs: dict[str, RunState]


class _Known:
    __slots__ = ("last_seq", "runs")

    def __init__(self, last_seq: int) -> None:
        self.last_seq = last_seq
        self.runs: dict[str, RunState] = {}


class KnownRooms:
    """The rooms written to most recently, and the runs in them that were, so many of each at the most.

    A run that makes place leaves its room known: runs begun in it still need no more than that.
    """

    def __init__(self, most_rooms: int = _MOST_ROOMS, most_runs: int = _MOST_RUNS) -> None:
        self._most_rooms = most_rooms
        self._most_runs = most_runs
        self._rooms: OrderedDict[RoomKey, _Known] = OrderedDict()
        self._runs: OrderedDict[str, _Known] = OrderedDict()
        """The room that each run is in, the run written to last at the end."""
        self._shared: dict[RoomKey, float] = {}

    def look_up(self, places: Iterable[tuple[RoomKey, str | None]]) -> KnownState | None:
        """The rooms, and in each the run if one is named; None unless all of it is known."""
        state = KnownState({}, {})
        for room, run_id in places:
            known = self._rooms.get(room)
            if known is None:
                return None
            state.rooms[room] = known.last_seq
            if run_id is not None:
                run = known.runs.get(run_id)
                if run is None:
                    return None
                state.runs[run_id] = run
        return state

    def learn(self, rooms: dict[RoomKey, int], runs: Iterable[RunState], now: float) -> None:
        """Takes in rooms as they are since our own commit, ``now`` in monotonic seconds, and runs in them."""
        for room, last_seq in rooms.items():
            if self._shared and (until := self._shared.get(room)) is not None:
                if until > now:
                    continue
                del self._shared[room]
            known = self._rooms.get(room)
            if known is None:
                known = self._rooms[room] = _Known(last_seq)
            known.last_seq = last_seq
            self._rooms.move_to_end(room)
        for run in runs:
            known = self._rooms.get(RoomKey(run.workspace_id, run.room_id))
            if known is not None:
                known.runs[run.run_id] = run
                self._runs[run.run_id] = known
                self._runs.move_to_end(run.run_id)
        while len(self._runs) > self._most_runs:
            run_id, known = self._runs.popitem(last=False)
            del known.runs[run_id]
        while len(self._rooms) > self._most_rooms:
            self._drop(next(iter(self._rooms)))

    def compare(self, rooms: dict[RoomKey, int]) -> None:
        """Forgets those that are somewhere else than they were known to be."""
        for room, last_seq in rooms.items():
            known = self._rooms.get(room)
            if known is not None and known.last_seq != last_seq:
                self._drop(room)

    def forget(self, rooms: Iterable[RoomKey], now: float) -> None:
        """Somebody else writes to one of the rooms: none of them is remembered for a while."""
        # Only the last second's are kept: rooms that are never written to again would stay for good.
        self._shared = {room: until for room, until in self._shared.items() if until > now}
        for room in rooms:
            self._shared[room] = now + _SHARED_SECONDS
            if room in self._rooms:
                self._drop(room)

    def _drop(self, room: RoomKey) -> None:
        for run_id in self._rooms.pop(room).runs:
            del self._runs[run_id]
