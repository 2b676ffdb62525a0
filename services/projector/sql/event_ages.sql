-- From the event store: seconds since each of the given events was recorded, and its size.
select e.workspace_id, e.room_id, e.stream_seq, extract(epoch from now() - e.recorded_at)::float8 as age,
    octet_length(e.envelope) as bytes
from unnest($1::text[], $2::text[], $3::bigint[]) as x (workspace_id, room_id, stream_seq)
join events as e on
    e.workspace_id = x.workspace_id and e.room_id = x.room_id and e.stream_seq = x.stream_seq
