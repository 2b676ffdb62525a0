-- A page of a run's steps, oldest first, and how far its room is applied, in one snapshot. A run without steps is one
-- row whose step_id is null; no row at all means no such run.
-- $1 workspace_id, $2 run_id, $3 stream_seq to start after, $4 rows
select
    s.step_id, r.run_id, r.workspace_id, r.room_id, s.thread_id, s.kind, s.status, s.title, s.input, s.output, s.error,
    s.created_at, s.updated_at, s.last_event_id::text, s.stream_seq, coalesce(p.applied_seq, 0) as applied_seq
from proj_runs r
left join proj_applied p on p.projection = 'runs' and p.workspace_id = r.workspace_id and p.room_id = r.room_id
left join lateral (
    select * from proj_steps where run_id = r.run_id and stream_seq > $3 order by stream_seq limit $4
) s on true
where r.run_id = $2 and r.workspace_id = $1
order by s.stream_seq
