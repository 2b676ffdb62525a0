-- How far the given rooms have come; a room that is missing has come to 0, as has one that is said to be below that.
select p.workspace_id, p.room_id, greatest(p.applied_seq, 0) as applied_seq
from unnest($2::text[], $3::text[]) as x (workspace_id, room_id)
join proj_rooms as p on p.projection = $1 and p.workspace_id = x.workspace_id and p.room_id = x.room_id
