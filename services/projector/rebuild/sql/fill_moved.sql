-- Says how far a fill has come.
update projector_versions set workspace_id = $2, room_id = $3, events = events + $4
where name = $1 and state = 'building'
