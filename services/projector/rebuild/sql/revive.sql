-- Has the workers go on with a version that was read before, from where they left it.
update projector_versions set state = 'ready' where name = $1 and state = 'retired'
