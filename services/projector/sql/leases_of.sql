-- The leases a worker holds, of versions that there are. Each is looked up by its key: there may be millions of others.
select l.projection, l.partition, l.epoch
from projector_versions as v
cross join generate_series(0, $2 - 1) as p
cross join lateral (
    select projection, partition, epoch, owner
    from projector_leases
    where projection = v.name and partition = p
    offset 0
) as l
where l.owner = $1
