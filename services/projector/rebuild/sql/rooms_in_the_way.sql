-- The rooms that have been filled with a step which, in the version that is read, is one of the given room.
select distinct n.workspace_id, n.room_id
from proj_runs as r
join proj_steps as o on o.run_id = r.run_id and o.workspace_id = $1 and o.room_id = $2
join proj_steps_v1 as n on n.step_id = o.step_id
where r.workspace_id = $1 and r.room_id = $2 and (n.workspace_id, n.room_id) <> ($1, $2)
