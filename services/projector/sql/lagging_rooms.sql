-- Which of the given rooms have been applied less far than the given seq.
select x.workspace_id, x.room_id, x.stream_seq
from unnest($2::text[], $3::text[], $4::bigint[]) as x (workspace_id, room_id, stream_seq)
left join proj_rooms as p on p.projection = $1 and p.workspace_id = x.workspace_id and p.room_id = x.room_id
where greatest(p.applied_seq, 0) < x.stream_seq
