-- Moves runs created in earlier batches; a null leaves the column as it was. A row never goes back in time.
-- Returns the runs that their rooms do not have, with the rooms.
-- Rooms are compared by what no index serves: each run is found by its own key, and by itself:
-- PostgreSQL would read the whole table for what is asked of it at the end.
with given as (
    select *
    from unnest(
        $1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[], $9::text[],
        $10::text[], $11::text[], $12::bigint[]
    ) as x (
        run_id, workspace_id, room_id, status, output, error, summary, started_at, ended_at, updated_at, last_event_id,
        stream_seq
    )
),

moved as (
    update proj_runs_v1 as r set
        status = coalesce(g.status, r.status),
        output = coalesce(g.output::json, r.output),
        error = coalesce(g.error::json, r.error),
        summary = coalesce(g.summary, r.summary),
        started_at = coalesce(g.started_at::timestamptz, r.started_at),
        ended_at = coalesce(g.ended_at::timestamptz, r.ended_at),
        updated_at = g.updated_at::timestamptz,
        last_event_id = g.last_event_id::uuid,
        stream_seq = g.stream_seq
    from given as g
    where
        r.run_id = g.run_id and r.stream_seq < g.stream_seq
        and (r.workspace_id, r.room_id) is not distinct from (g.workspace_id, g.room_id)
)

select g.run_id, g.workspace_id, g.room_id
from given as g
left join lateral (
    select true as is_there
    from proj_runs_v1 as r
    where r.run_id = g.run_id and (r.workspace_id, r.room_id) is not distinct from (g.workspace_id, g.room_id)
    limit 1
) as k on true
where k.is_there is null
