-- The steps of the runs of all rooms after one key and up to another.
select s.step_id, r.workspace_id, r.room_id
from proj_runs as r
join proj_steps as s on s.run_id = r.run_id
where
    (r.workspace_id, r.room_id) > ($1, $2)
    and ($3::text is null or (r.workspace_id, r.room_id) <= ($3, $4::text))
