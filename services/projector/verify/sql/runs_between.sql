-- The runs of all rooms after one key and up to another.
select run_id, workspace_id, room_id from proj_runs
where (workspace_id, room_id) > ($1, $2) and ($3::text is null or (workspace_id, room_id) <= ($3, $4::text))
