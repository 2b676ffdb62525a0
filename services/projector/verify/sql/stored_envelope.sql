-- From the event store: one event.
select envelope from events where workspace_id = $1 and room_id = $2 and stream_seq = $3
