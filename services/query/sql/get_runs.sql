-- Runs of workspaces, and how far their rooms are applied, in one snapshot.
-- $1 text[], $2 text[]: workspace ids and run ids, side by side
select
    r.run_id, r.workspace_id, r.room_id, r.thread_id, r.status, r.title, r.goal, r.input, r.output, r.error, r.summary,
    r.tags, r.created_at, r.started_at, r.ended_at, r.updated_at, r.correlation_id, r.last_event_id::text, r.stream_seq,
    coalesce(
        (
            select p.applied_seq from proj_applied p
            where p.projection = 'runs' and p.workspace_id = r.workspace_id and p.room_id = r.room_id
        ),
        0
    ) as applied_seq
from unnest($1::text[], $2::text[]) as wanted (workspace_id, run_id)
join proj_runs r on r.run_id = wanted.run_id and r.workspace_id = wanted.workspace_id
