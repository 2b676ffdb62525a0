-- Gives leases back.
update projector_leases set owner = null where projection = $1 and partition = any ($2::smallint[]) and owner = $3
