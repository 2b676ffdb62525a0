-- Parks events that cannot be applied, or says that another try has failed. Trying was what a retry asked for.
insert into projector_parked as k (projection, workspace_id, room_id, stream_seq, partition, error)
select $1, x.workspace_id, x.room_id, x.stream_seq, x.partition, x.error
from unnest($2::text[], $3::text[], $4::bigint[], $5::smallint[], $6::text[])
    as x (workspace_id, room_id, stream_seq, partition, error)
on conflict (projection, workspace_id, room_id, stream_seq) do update set
    error = excluded.error,
    attempts = k.attempts + 1,
    tried_at = now(),
    wanted = nullif(k.wanted, 'retry')
