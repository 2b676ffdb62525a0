-- From the event store: seconds since each of the given events was recorded, its size, and whether it is of the form of
-- ours, without which the relay publishes nothing.
select e.workspace_id, e.room_id, e.stream_seq, extract(epoch from now() - e.recorded_at)::float8 as age,
    octet_length(e.envelope) as bytes,
    e.workspace_id ~ '^[A-Za-z0-9_-]{1,128}$'
    and e.room_id ~ '^[A-Za-z0-9_-]{1,128}$'
    and e.event_type ~ '^[ -~]{1,128}$'
    and coalesce(e.traceparent ~ '^[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$', true) as is_well_formed
from unnest($1::text[], $2::text[], $3::bigint[]) as x (workspace_id, room_id, stream_seq)
join events as e on
    e.workspace_id = x.workspace_id and e.room_id = x.room_id and e.stream_seq = x.stream_seq
