-- The events that were parked or skipped in the rooms after one key and up to another.
select projection, workspace_id, room_id, stream_seq, error, skipped_at is not null as skipped
from projector_parked
where (workspace_id, room_id) > ($1, $2) and ($3::text is null or (workspace_id, room_id) <= ($3, $4::text))
