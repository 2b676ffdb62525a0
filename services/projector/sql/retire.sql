-- Gives everything back and leaves, whatever else is in the tables.
with given_back as (
    update projector_leases set owner = null where owner = $1 and projection = any (array(select name from projector_versions))
)

delete from projector_workers where worker_id = $1
