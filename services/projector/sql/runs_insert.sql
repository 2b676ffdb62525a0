-- Writes the runs created in this batch, with whatever else happened to them in it.
-- A row that has come as far already is of the same events, applied before, and stays as it is.
-- Returns the runs whose row is another room's, or was there before these events, and their rooms: a run is created once.
with written as (
    insert into proj_runs_v1 as r (
        run_id, workspace_id, room_id, thread_id, status, title, goal, input, output, error, summary, tags,
        created_at, started_at, ended_at, updated_at, correlation_id, last_event_id, stream_seq
    )
    select
        x.run_id, x.workspace_id, x.room_id, x.thread_id, x.status, x.title, x.goal,
        x.input::json, x.output::json, x.error::json, x.summary, x.tags::text[],
        x.created_at::timestamptz, x.started_at::timestamptz, x.ended_at::timestamptz, x.updated_at::timestamptz,
        x.correlation_id, x.last_event_id::uuid, x.stream_seq
    from unnest(
        $1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[], $9::text[],
        $10::text[], $11::text[], $12::text[], $13::text[], $14::text[], $15::text[], $16::text[], $17::text[],
        $18::text[], $19::bigint[]
    ) as x (
        run_id, workspace_id, room_id, thread_id, status, title, goal, input, output, error, summary, tags,
        created_at, started_at, ended_at, updated_at, correlation_id, last_event_id, stream_seq
    )
    on conflict (run_id) do nothing
    returning r.run_id, r.workspace_id, r.room_id
)

select g.run_id, g.workspace_id, g.room_id
from unnest($1::text[], $2::text[], $3::text[], $19::bigint[]) as g (run_id, workspace_id, room_id, stream_seq)
where not (
    (g.run_id, g.workspace_id, g.room_id) in (select w.run_id, w.workspace_id, w.room_id from written as w)
    or exists (
        select from proj_runs_v1 as r
        where
            r.run_id = g.run_id and r.stream_seq >= g.stream_seq
            and (r.workspace_id, r.room_id) is not distinct from (g.workspace_id, g.room_id)
    )
)
