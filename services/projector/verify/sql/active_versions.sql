-- The versions that are read, and the schemas of their tables.
select projection, name, schema from projector_versions where state = 'active'
