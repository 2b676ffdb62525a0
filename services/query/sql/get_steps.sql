-- A page of a run's steps, oldest first, and how far its room is applied, in one snapshot. A run without steps is one
-- row whose step_id is null; no row at all means no such run.
-- Bounded in bytes as list_runs is.
-- $1 workspace_id, $2 run_id, $3 stream_seq to start after, $4 rows, $5 bytes
select
    s.step_id, r.run_id, r.workspace_id, r.room_id, s.thread_id, s.kind, s.status, s.title, s.input, s.output, s.error,
    s.created_at, s.updated_at, s.last_event_id::text, s.stream_seq, r.applied_seq,
    s.has_more
from (
    -- "offset 0" has it looked up once a run, not once a step.
    select
        run.run_id, run.workspace_id, run.room_id,
        greatest(
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
            lead(true) over before is not null as has_more,
            coalesce(
                sum(
                    coalesce(octet_length(s.title), 0)
                    + coalesce(octet_length(s.kind), 0)
                    + coalesce(s.plain_bytes, 0)
                ) over before,
                0
            )
            + coalesce(
                proj_bytes_until($5, s.input, s.output, s.error, null)
                filter (where s.plain_bytes is null) over before,
                0
            ) as bytes_before
        from (
            select t.*, proj_plain_bytes(t.input, t.output, t.error, null) as plain_bytes
            from proj_steps t
            where t.run_id = r.run_id and t.stream_seq > $3
            order by t.stream_seq
            limit $4
        ) s
        window before as (order by s.stream_seq rows between unbounded preceding and 1 preceding)
    ) sized
    where bytes_before < $5
) s on true
order by s.stream_seq
