-- Forgets so many workers that died long ago, and as many that never were any. Each comes from its end of the index; those
-- that another worker is just forgetting are left to it.
with dead as (
    select worker_id from projector_workers
    where expires_at < now() - interval '1 hour'
    order by expires_at
    limit $1
    for update skip locked
),

impossible as (
    select worker_id from projector_workers
    where expires_at > now() + interval '1 hour'
    order by expires_at desc
    limit $1
    for update skip locked
)

delete from projector_workers
where worker_id = any (array(select worker_id from dead union all select worker_id from impossible))
