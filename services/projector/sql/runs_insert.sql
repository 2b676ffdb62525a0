-- Writes the runs created in this batch, with whatever else happened to them in it.
-- A row that is already further on stays as it is. Returns a run that is another room's, if there is one.
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
    on conflict (run_id) do update set
        status = excluded.status,
        output = excluded.output,
        error = excluded.error,
        summary = excluded.summary,
        started_at = excluded.started_at,
        ended_at = excluded.ended_at,
        updated_at = excluded.updated_at,
        last_event_id = excluded.last_event_id,
        stream_seq = excluded.stream_seq
    where
        excluded.stream_seq > r.stream_seq
        and (r.workspace_id, r.room_id) is not distinct from (excluded.workspace_id, excluded.room_id)
    returning r.run_id
)

select g.run_id
from unnest($1::text[], $2::text[], $3::text[]) as g (run_id, workspace_id, room_id)
where not (
    g.run_id in (select w.run_id from written as w)
    -- There already, and further on.
    or exists (
        select from proj_runs_v1 as r
        where r.run_id = g.run_id and (r.workspace_id, r.room_id) is not distinct from (g.workspace_id, g.room_id)
    )
)
limit 1
