-- From the event store: which of the given events were recorded after a time.
select e.workspace_id, e.room_id, e.stream_seq
from unnest($1::text[], $2::text[], $3::bigint[]) as x (workspace_id, room_id, stream_seq)
join events as e on
    e.workspace_id = x.workspace_id and e.room_id = x.room_id and e.stream_seq = x.stream_seq
where e.recorded_at > $4
