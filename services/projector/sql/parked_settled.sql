-- Takes out parked events of which something is wanted that cannot be done, while their partitions are the worker's. Each is
-- looked up by its key, and by itself, whatever PostgreSQL takes the table for: by the other index, which is only of what is
-- open, it would be read as often as there are events.
with found as materialized (
    select k.*
    from unnest($2::text[], $3::text[], $4::bigint[]) as x (workspace_id, room_id, stream_seq)
    cross join lateral (
        select ctid as place, partition, wanted, skipped_at
        from projector_parked
        where
            projection = $1 and workspace_id = x.workspace_id and room_id = x.room_id and stream_seq = x.stream_seq
        offset 0
    ) as k
)

delete from projector_parked
where
    ctid = any (
        array(
            select place from found
            where
                wanted is not null and skipped_at is null
                and partition in (select partition from projector_leases where projection = $1 and owner = $5)
        )
    )
    and wanted is not null and skipped_at is null
