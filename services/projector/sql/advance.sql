-- Moves the rooms' applied seq and the partitions' checkpoints, forgets what was parked before them, and says how many of the
-- partitions were still ours. What is applied here is not left out, whatever the table says: skips stay that were made in
-- this transaction, and those of events before.
-- Anything less than all of them means that the batch must not be committed.
with rooms as (
    insert into proj_rooms as p (projection, workspace_id, room_id, partition, applied_seq)
    select $1, x.workspace_id, x.room_id, x.partition, x.applied_seq
    from unnest($2::text[], $3::text[], $4::smallint[], $5::bigint[])
        as x (workspace_id, room_id, partition, applied_seq)
    on conflict (projection, workspace_id, room_id) do update set
        applied_seq = excluded.applied_seq,
        updated_at = now()
    where excluded.applied_seq > p.applied_seq
),

unparked as (
    delete from projector_parked as k
    using unnest($2::text[], $3::text[], $11::bigint[], $5::bigint[]) as x (workspace_id, room_id, first_seq, applied_seq)
    where
        k.projection = $1 and k.workspace_id = x.workspace_id and k.room_id = x.room_id
        and k.stream_seq <= x.applied_seq
        and (k.skipped_at is null or (k.stream_seq >= x.first_seq and k.skipped_at <> now()))
),

fence as (
    update projector_leases as l set
        stream_identity = x.stream_identity,
        stream_position = x.stream_position
    from unnest($7::smallint[], $8::bigint[], $9::text[], $10::bigint[])
        as x (partition, epoch, stream_identity, stream_position)
    where l.projection = $1 and l.partition = x.partition and l.epoch = x.epoch and l.owner = $6
    returning l.partition
)

select f.partition from fence as f
