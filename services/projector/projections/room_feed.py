"""``proj_room_events``: the history of a room as it is served to readers.

Invariant: the envelope's bytes go through untouched. Nothing here decodes them, so an event that another projection
cannot read still reaches the people who watch the room.
"""

from services.projector.projections.base import RoomEvents, Write


class _Changes:
    def __init__(self) -> None:
        self._columns: tuple[list[str], list[str], list[int], list[int], list[bytes]] = ([], [], [], [], [])

    def add(self, room: RoomEvents) -> None:
        (workspace_id, room_id), events = room
        workspaces, room_ids, seqs, positions, envelopes = self._columns
        workspaces += [workspace_id] * len(events)
        room_ids += [room_id] * len(events)
        seqs += [event.stream_seq for event in events]
        positions += [event.position for event in events]
        envelopes += [event.envelope for event in events]

    def writes(self) -> list[Write]:
        return [Write("room_events_insert", self._columns)] if self._columns[0] else []


class RoomFeed:
    name = "room_feed"
    schema = 1

    def changes(self) -> _Changes:
        return _Changes()
