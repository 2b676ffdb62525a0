-- The versions of a projection, newest first.
select version, name, state, stream_identity, stream_position, workspace_id, room_id, events from projector_versions
where projection = $1 order by version desc
