-- The leases a worker holds.
select projection, partition, epoch from projector_leases where owner = $1
