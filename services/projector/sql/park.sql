-- Parks events that cannot be applied, or says that another try has failed. Trying was what a retry asked for. What was
-- skipped before, in a version that this one was filled beside, is to be skipped again. Attempts are counted up to a million,
-- whatever somebody has written there. A row that is there and that somebody else has locked is left as it is, for the next
-- try: the event is parked, and no other room is to wait for that. Each row is looked up as in parked_settled.
with found as materialized (
    select x.*, k.place
    from unnest($2::text[], $3::text[], $4::bigint[], $5::smallint[], $6::text[])
        as x (workspace_id, room_id, stream_seq, partition, error)
    left join lateral (
        select ctid as place
        from projector_parked
        where
            projection = $1 and workspace_id = x.workspace_id and room_id = x.room_id and stream_seq = x.stream_seq
        offset 0
    ) as k on true
),

free as materialized (
    select ctid as place
    from projector_parked
    where ctid = any (array(select place from found))
    for no key update skip locked
),

tried as (
    update projector_parked as k set
        error = f.error,
        attempts = least(greatest(k.attempts, 0), 999999) + 1,
        tried_at = now(),
        wanted = case when k.skipped_at is null then nullif(k.wanted, 'retry') else 'skip' end,
        skipped_at = null
    from found as f
    where k.ctid = any (array(select place from free)) and f.place = k.ctid
)

insert into projector_parked (projection, workspace_id, room_id, stream_seq, partition, error)
select $1, f.workspace_id, f.room_id, f.stream_seq, f.partition, f.error
from found as f
where f.place is null
on conflict do nothing
