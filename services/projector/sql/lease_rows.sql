-- Makes sure that every partition of a projection has its lease.
insert into projector_leases (projection, partition)
select $1, p from generate_series(0, $2 - 1) as p
on conflict (projection, partition) do nothing
