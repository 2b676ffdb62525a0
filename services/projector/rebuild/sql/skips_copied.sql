-- Leaves out of one version what another leaves out.
insert into projector_parked
(projection, workspace_id, room_id, stream_seq, partition, error, attempts, parked_at, tried_at, skipped_at)
select $2, workspace_id, room_id, stream_seq, partition, error, attempts, parked_at, tried_at, skipped_at
from projector_parked where projection = $1 and skipped_at is not null
on conflict do nothing
