-- The name of the version of a projection that is read.
select name from projector_versions where projection = $1 and state = 'active'
