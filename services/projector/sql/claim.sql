-- Takes up to so many leases that nobody alive holds. A lease somebody is just using is left for the next time.
-- Who would be alive for longer than any lease lasts is no worker. An epoch beyond all that counting comes to is none of
-- ours either: it begins with the time again, as a new lease does.
with free as (
    select l.projection, l.partition
    from projector_leases as l
    where
        l.projection = $1
        and (
            l.owner is null
            or not exists (
                select from projector_workers as w
                where w.worker_id = l.owner and w.expires_at > now() and w.expires_at < now() + interval '2 minutes'
            )
        )
    order by l.partition
    limit $3
    for update of l skip locked
)

update projector_leases as l set
    owner = $2,
    epoch = case
        when l.epoch < 9007199254740991 then l.epoch + 1 else (extract(epoch from clock_timestamp()) * 1000)::bigint
    end
from free as f
where l.projection = f.projection and l.partition = f.partition
returning l.partition, l.epoch, l.stream_identity, l.stream_position
