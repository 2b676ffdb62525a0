-- Forgets so many workers that died long ago, and as many that never were any: those first that would be taken for alive
-- next (living_workers.sql). Those that another worker is just forgetting are left to it.
with dead as (
    select worker_id from projector_workers
    where expires_at < now() - interval '1 hour'
    order by expires_at
    limit $1
    for update skip locked
),

impossible as (
    select worker_id from projector_workers
    where expires_at >= now() + interval '2 minutes'
    order by expires_at
    limit $1
    for update skip locked
)

delete from projector_workers
where worker_id = any (array(select worker_id from dead union all select worker_id from impossible))
