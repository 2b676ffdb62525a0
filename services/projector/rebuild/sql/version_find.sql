-- The versions of a projection, newest first.
select version, name, state, schema from projector_versions where projection = $1 order by version desc
