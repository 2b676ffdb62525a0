-- Locks those of the rooms that nobody else has locked, without waiting, and gives their last number.
-- $1 text[], $2 text[]: workspace and room ids, side by side
select rooms.workspace_id, rooms.room_id, rooms.last_seq
from rooms
join unnest($1::text[], $2::text[]) as wanted (workspace_id, room_id) using (workspace_id, room_id)
order by rooms.workspace_id, rooms.room_id
for update of rooms skip locked
