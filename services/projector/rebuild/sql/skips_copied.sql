-- Leaves out of one version what another leaves out. What it has parked itself is to be skipped by its workers.
insert into projector_parked as k
(projection, workspace_id, room_id, stream_seq, partition, error, attempts, parked_at, tried_at, skipped_at)
select $2, workspace_id, room_id, stream_seq, partition, left(error, 500), 1, parked_at, tried_at, skipped_at
from projector_parked where projection = $1 and skipped_at is not null
on conflict (projection, workspace_id, room_id, stream_seq) do update set wanted = 'skip' where k.skipped_at is null
