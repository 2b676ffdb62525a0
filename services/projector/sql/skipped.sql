-- Says that parked events are left out of the projection for good.
update projector_parked as k set skipped_at = now(), wanted = null
from unnest($2::text[], $3::text[], $4::bigint[]) as x (workspace_id, room_id, stream_seq)
where
    k.projection = $1 and k.workspace_id = x.workspace_id and k.room_id = x.room_id and k.stream_seq = x.stream_seq
