"""What an instance that does not lead tells the one that does: the rooms it has written to.

The payload of a ping has a line for each, ``<workspace_id> <room_id>``. An empty one says that there is something.
"""

from collections.abc import Iterable

from shared.contracts.ids import RoomKey, is_token

MOST_ROOMS = 1000
MOST_BYTES = 300_000
"""As many rooms have at the most."""


def rooms_told(rooms: Iterable[RoomKey]) -> bytes:
    return "\n".join(f"{room.workspace_id} {room.room_id}" for room in rooms).encode()


def rooms_heard(payload: bytes) -> list[RoomKey]:
    """None of a ping that does not say which, or was written by somebody else."""
    if not payload or len(payload) > MOST_BYTES:
        return []
    rooms: list[RoomKey] = []
    for line in payload.decode("latin-1").split("\n"):
        workspace_id, _, room_id = line.partition(" ")
        if not (is_token(workspace_id) and is_token(room_id)):
            return []
        rooms.append(RoomKey(workspace_id, room_id))
    return rooms if len(rooms) <= MOST_ROOMS else []
