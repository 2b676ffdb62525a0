-- The other workers that hold leases of a projection and are not alive any more. Who is alive is the same as in claim.sql.
select distinct l.owner
from projector_leases as l
where
    l.projection = $1
    and l.owner <> $2
    and not exists (
        select from projector_workers as w
        where w.worker_id = l.owner and w.expires_at > now() and w.expires_at < now() + interval '2 minutes'
    )
