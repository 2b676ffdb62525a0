-- What the trigger of proj_runs would have put here.
insert into proj_run_tags_v1 (workspace_id, tag, created_at, run_id, room_id)
select r.workspace_id, t.tag, r.created_at, r.run_id, r.room_id
from proj_runs_v1 as r cross join unnest(r.tags) with ordinality as t (tag, place)
where t.place = array_position(r.tags, t.tag)
