-- A page of a run's steps, oldest first, and how far its room is applied, in one snapshot. A run without steps is one
-- row whose step_id is null; no row at all means no such run.
-- Bounded in bytes as list_runs is.
-- $1 workspace_id, $2 run_id, $3 stream_seq to start after, $4 rows, $5 bytes
select
    s.step_id, r.run_id, r.workspace_id, r.room_id, s.thread_id, s.kind, s.status, s.title, s.input, s.output, s.error,
    s.created_at, s.updated_at, s.last_event_id::text, s.stream_seq, r.applied_seq,
    s.found
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
    select *
    from (
        select
            s.*,
            count(*) over () as found,
            coalesce(
                sum(
                    coalesce(octet_length(s.title), 0)
                    + coalesce(octet_length(s.kind), 0)
                    + case when pg_column_compression(s.input) is null then pg_column_size(s.input)
                        else octet_length(s.input::text) end
                    + case when pg_column_compression(s.output) is null then pg_column_size(s.output)
                        else octet_length(s.output::text) end
                    + case when pg_column_compression(s.error) is null then pg_column_size(s.error)
                        else octet_length(s.error::text) end
                ) over (order by s.stream_seq rows between unbounded preceding and 1 preceding),
                0
            ) as bytes_before
        from (
            select * from proj_steps where run_id = r.run_id and stream_seq > $3 order by stream_seq limit $4
        ) s
    ) sized
    where bytes_before < $5
) s on true
order by s.stream_seq
