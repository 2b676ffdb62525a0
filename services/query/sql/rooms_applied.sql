-- How far the projection `runs` has come in rooms, null where it does not know the room.
-- $1 text[], $2 text[]: workspace ids and room ids, side by side
select
    wanted.workspace_id,
    wanted.room_id,
    (
        select greatest(p.applied_seq, 0) from proj_applied p
        where p.projection = 'runs' and p.workspace_id = wanted.workspace_id and p.room_id = wanted.room_id
    ) as applied_seq
from unnest($1::text[], $2::text[]) as wanted (workspace_id, room_id)
