-- Takes out parked events of which something is wanted that cannot be done, while their partitions are the worker's.
delete from projector_parked as k
using unnest($2::text[], $3::text[], $4::bigint[]) as x (workspace_id, room_id, stream_seq), projector_leases as l
where
    k.projection = $1 and k.workspace_id = x.workspace_id and k.room_id = x.room_id and k.stream_seq = x.stream_seq
    and k.wanted is not null and k.skipped_at is null
    and l.projection = k.projection and l.partition = k.partition and l.owner = $5
