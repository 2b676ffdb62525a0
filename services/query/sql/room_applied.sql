-- How far the projection `runs` has come in a room.
-- $1 workspace_id, $2 room_id
select applied_seq from proj_applied where projection = 'runs' and workspace_id = $1 and room_id = $2
