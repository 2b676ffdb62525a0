-- From the event store: all rooms.
select workspace_id, room_id from rooms
