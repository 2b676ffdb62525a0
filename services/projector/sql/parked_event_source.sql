-- From the event store: one event.
select event_id, event_type, event_version, run_id, recorded_at, envelope from events
where workspace_id = $1 and room_id = $2 and stream_seq = $3
