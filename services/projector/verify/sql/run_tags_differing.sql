-- Runs that are not listed by the tags they have, or by others: some of them.
with had as (
    select r.workspace_id, r.room_id, r.run_id, r.created_at, t.tag
    from proj_runs as r cross join lateral (select distinct u.tag from unnest(r.tags) as u (tag)) as t
),

listed as (
    select workspace_id, room_id, run_id, created_at, tag from proj_run_tags
)

select distinct d.run_id, d.workspace_id, d.room_id
from ((table had except all table listed) union all (table listed except all table had)) as d
limit 100
