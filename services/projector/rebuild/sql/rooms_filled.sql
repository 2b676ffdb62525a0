-- Says how far the rooms have come that were filled.
insert into proj_rooms (projection, workspace_id, room_id, partition, applied_seq)
select $1, x.workspace_id, x.room_id, x.partition, x.applied_seq
from unnest($2::text[], $3::text[], $4::smallint[], $5::bigint[])
    as x (workspace_id, room_id, partition, applied_seq)
