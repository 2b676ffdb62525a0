-- Makes sure that every partition of a projection has its lease, for a version that a migration made: a rebuild makes
-- those of the others, and none are made of one that is dropped.
-- Epochs begin with the time: a database that was made anew has none of the one before, which a late writer may know.
insert into projector_leases (projection, partition, epoch)
select v.name, p, (extract(epoch from clock_timestamp()) * 1000)::bigint
from projector_versions as v, generate_series(0, $2 - 1) as p
where v.name = $1 and v.version = 1
on conflict (projection, partition) do nothing
