-- Parks events that cannot be applied, or says that another try has failed. Trying was what a retry asked for. What was
-- skipped before, in a version that this one was filled beside, is to be skipped again. Attempts are counted up to a million,
-- whatever somebody has written there.
insert into projector_parked as k (projection, workspace_id, room_id, stream_seq, partition, error)
select $1, x.workspace_id, x.room_id, x.stream_seq, x.partition, x.error
from unnest($2::text[], $3::text[], $4::bigint[], $5::smallint[], $6::text[])
    as x (workspace_id, room_id, stream_seq, partition, error)
on conflict (projection, workspace_id, room_id, stream_seq) do update set
    error = excluded.error,
    attempts = least(greatest(k.attempts, 0), 999999) + 1,
    tried_at = now(),
    wanted = case when k.skipped_at is null then nullif(k.wanted, 'retry') else 'skip' end,
    skipped_at = null
