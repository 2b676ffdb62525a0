-- A version is the one that is read.
update projector_versions set state = 'active' where name = $1 and state = 'ready'
returning name
