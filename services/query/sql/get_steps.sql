-- A page of a run's steps, oldest first, and how far its room is applied, in one snapshot. A run without steps is one
-- row whose step_id is null; no row at all means no such run.
-- $1 workspace_id, $2 run_id, $3 stream_seq to start after, $4 rows
select
    s.step_id, r.run_id, r.workspace_id, r.room_id, s.thread_id, s.kind, s.status, s.title, s.input, s.output, s.error,
    s.created_at, s.updated_at, s.last_event_id::text, s.stream_seq, r.applied_seq
from (
    -- "offset 0" has it looked up once a run, not once a step.
    select
        run.run_id, run.workspace_id, run.room_id,
        coalesce(
            (
                select p.applied_seq from proj_applied p
                where p.projection = 'runs' and p.workspace_id = run.workspace_id and p.room_id = run.room_id
            ),
            0
        ) as applied_seq
    from proj_runs run
    where run.run_id = $2 and run.workspace_id = $1
    offset 0
) r
left join lateral (
    select * from proj_steps where run_id = r.run_id and stream_seq > $3 order by stream_seq limit $4
) s on true
order by s.stream_seq
