-- The leases a worker holds, of versions that there are.
select projection, partition, epoch from projector_leases
where owner = $1 and projection = any (array(select name from projector_versions))
