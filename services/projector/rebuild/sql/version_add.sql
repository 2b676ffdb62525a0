-- Begins a version, with the position of the stream that its fill starts from.
insert into projector_versions (projection, version, name, schema, state, stream_identity, stream_position)
values ($1, $2, $3, $4, 'building', $5, $6)
