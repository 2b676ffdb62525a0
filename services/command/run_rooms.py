"""Which room a run belongs to, remembered: a run never moves, so this cache is never wrong."""

from collections import OrderedDict

from shared.contracts.ids import RoomKey

_MOST = 100_000


class RunRooms:
    """The rooms of the most recently seen runs."""

    def __init__(self, most: int = _MOST) -> None:
        self._most = most
        self._rooms: OrderedDict[str, RoomKey] = OrderedDict()

    def get(self, run_id: str) -> RoomKey | None:
        room = self._rooms.get(run_id)
        if room is not None:
            self._rooms.move_to_end(run_id)
        return room

    def add(self, run_id: str, room: RoomKey) -> None:
        self._rooms[run_id] = room
        self._rooms.move_to_end(run_id)
        if len(self._rooms) > self._most:
            self._rooms.popitem(last=False)
