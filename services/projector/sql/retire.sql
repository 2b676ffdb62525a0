-- Gives everything back and leaves; forgets workers that died long ago, and those that never were any.
with given_back as (
    update projector_leases set owner = null where owner = $1
)

delete from projector_workers
where worker_id = $1 or expires_at not between now() - interval '1 hour' and now() + interval '1 hour'
