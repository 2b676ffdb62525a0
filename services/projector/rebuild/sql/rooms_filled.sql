-- Says how far the rooms have come that were filled; not of those that somebody else has brought on.
update proj_rooms as p set applied_seq = x.applied_seq, updated_at = now()
from unnest($2::text[], $3::text[], $4::bigint[]) as x (workspace_id, room_id, applied_seq)
where p.projection = $1 and p.workspace_id = x.workspace_id and p.room_id = x.room_id and p.applied_seq = 0
