-- The versions that workers run.
select projection, version, name, schema from projector_versions where state in ('ready', 'active') order by name
