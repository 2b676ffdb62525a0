-- One event of a room's history.
select envelope from proj_room_events where workspace_id = $1 and room_id = $2 and stream_seq = $3
