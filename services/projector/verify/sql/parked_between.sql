-- The events that were parked or skipped in the rooms after one key and up to another.
select v.projection, k.workspace_id, k.room_id, k.stream_seq, left(k.error, 500) as error, k.skipped_at is not null as skipped
from projector_parked as k
join projector_versions as v on v.name = k.projection and v.state = 'active'
where (k.workspace_id, k.room_id) > ($1, $2) and ($3::text is null or (k.workspace_id, k.room_id) <= ($3, $4::text))
