-- Keeps the workers from committing anything of a version until this transaction ends.
select partition from projector_leases where projection = $1 order by partition for update
