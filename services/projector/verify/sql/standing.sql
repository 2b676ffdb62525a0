-- How far the given rooms have come in a projection, and the checkpoint of each one's partition.
select
    x.workspace_id, x.room_id, greatest(p.applied_seq, 0) as applied_seq,
    l.stream_identity || '/' || l.stream_position as checkpoint
from unnest($2::text[], $3::text[], $4::smallint[]) as x (workspace_id, room_id, partition)
left join proj_applied as p on p.projection = $1 and p.workspace_id = x.workspace_id and p.room_id = x.room_id
left join projector_versions as v on v.projection = $1 and v.state = 'active'
left join projector_leases as l on l.projection = v.name and l.partition = x.partition
