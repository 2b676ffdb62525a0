-- How far the projection `room_feed` has come in many rooms at once.
-- $1 workspace_ids, $2 room_ids, of the same length
select p.workspace_id, p.room_id, p.applied_seq
from unnest($1::text[], $2::text[]) as wanted (workspace_id, room_id)
join proj_rooms p
    on p.projection = 'room_feed' and p.workspace_id = wanted.workspace_id and p.room_id = wanted.room_id
