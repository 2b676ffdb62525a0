-- Runs of workspaces, and how far their rooms are applied, in one snapshot. Of runs that take $3 bytes or more as they are
-- stored, which is known without reading them, the values are null.
-- $1 text[], $2 text[]: workspace ids and run ids, side by side; $3 bytes
select
    r.run_id, r.workspace_id, r.room_id, r.thread_id, r.status, v.title, v.goal, v.input, v.output, v.error, v.summary,
    v.tags, r.created_at, r.started_at, r.ended_at, r.updated_at, r.correlation_id, r.last_event_id::text, r.stream_seq,
    greatest(
        (
            select p.applied_seq from proj_applied p
            where p.projection = 'runs' and p.workspace_id = r.workspace_id and p.room_id = r.room_id
        ),
        0
    ) as applied_seq
from unnest($1::text[], $2::text[]) as wanted (workspace_id, run_id)
join proj_runs r on r.run_id = wanted.run_id and r.workspace_id = wanted.workspace_id
left join lateral (
    select r.title, r.goal, r.input, r.output, r.error, r.summary, r.tags
    where
        coalesce(octet_length(r.title), 0)
        + coalesce(octet_length(r.goal), 0)
        + coalesce(octet_length(r.summary), 0)
        + pg_column_size(r.input)
        + pg_column_size(r.output)
        + pg_column_size(r.error)
        + pg_column_size(r.tags)
        < $3
) v on true
