"""``proj_room_events``: the history of a room as it is served to readers.

Invariant: the envelope's bytes go through untouched. Nothing here decodes them, so an event that another projection
cannot read still reaches the people who watch the room.
"""

from collections.abc import Sequence

from services.projector.projections.base import RoomEvents, Write


class RoomFeed:
    name = "room_feed"
    schema = 1

    def fold(self, rooms: Sequence[RoomEvents]) -> list[Write]:
        columns: tuple[list[str], list[str], list[int], list[int], list[bytes]] = ([], [], [], [], [])
        workspaces, room_ids, seqs, positions, envelopes = columns
        for (workspace_id, room_id), events in rooms:
            workspaces += [workspace_id] * len(events)
            room_ids += [room_id] * len(events)
            seqs += [event.stream_seq for event in events]
            positions += [event.position for event in events]
            envelopes += [event.envelope for event in events]
        return [Write("room_events_insert", columns)] if seqs else []
