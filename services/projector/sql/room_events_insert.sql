-- Adds events to the rooms' history, the envelope bytes as they are.
insert into proj_room_events_v1 (workspace_id, room_id, stream_seq, stream_position, envelope)
select x.workspace_id, x.room_id, x.stream_seq, x.stream_position, x.envelope
from unnest($1::text[], $2::text[], $3::bigint[], $4::bigint[], $5::bytea[])
    as x (workspace_id, room_id, stream_seq, stream_position, envelope)
on conflict (workspace_id, room_id, stream_seq) do nothing
