-- Rooms whose event of that number is not the one that the stream holds, or does not exist.
-- $1 text[], $2 text[], $3 bigint[], $4 text[]: workspace, room, stream_seq, event_id
select x.workspace_id, x.room_id
from unnest($1::text[], $2::text[], $3::bigint[], $4::text[]) as x (workspace_id, room_id, stream_seq, event_id)
left join events as e using (workspace_id, room_id, stream_seq)
where e.event_id::text is distinct from x.event_id
