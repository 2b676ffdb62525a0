-- The version that is read so far is read no longer.
update projector_versions set state = 'retired' where projection = $1 and state = 'active'
