-- Makes sure that every partition of a projection has its lease. A rebuild makes those of a new version.
insert into projector_leases (projection, partition)
select $1, p from generate_series(0, $2 - 1) as p
where not exists (select from projector_versions as v where v.name = $1 and v.version > 1)
on conflict (projection, partition) do nothing
