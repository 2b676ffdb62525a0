-- Those of the rooms that somebody else has locked.
-- $1 text[], $2 text[]: workspace and room ids, side by side
with free as (
    select rooms.workspace_id, rooms.room_id
    from rooms
    join unnest($1::text[], $2::text[]) as wanted (workspace_id, room_id) using (workspace_id, room_id)
    for update of rooms skip locked
)
select workspace_id, room_id
from rooms
join unnest($1::text[], $2::text[]) as wanted (workspace_id, room_id) using (workspace_id, room_id)
where (workspace_id, room_id) not in (select workspace_id, room_id from free)
