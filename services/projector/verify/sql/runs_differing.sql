-- Which of the runs folded afresh are missing or different, and in which columns. Parameters as of runs_insert.
select
    x.run_id, x.workspace_id, x.room_id, r.run_id is null as missing,
    array_to_string(array[
        case when r.workspace_id is distinct from x.workspace_id then 'workspace_id' end,
        case when r.room_id is distinct from x.room_id then 'room_id' end,
        case when r.thread_id is distinct from x.thread_id then 'thread_id' end,
        case when r.status is distinct from x.status then 'status' end,
        case when r.title is distinct from x.title then 'title' end,
        case when r.goal is distinct from x.goal then 'goal' end,
        case when r.input::text is distinct from x.input then 'input' end,
        case when r.output::text is distinct from x.output then 'output' end,
        case when r.error::text is distinct from x.error then 'error' end,
        case when r.summary is distinct from x.summary then 'summary' end,
        case when r.tags is distinct from x.tags::text[] then 'tags' end,
        case when r.created_at is distinct from x.created_at::timestamptz then 'created_at' end,
        case when r.started_at is distinct from x.started_at::timestamptz then 'started_at' end,
        case when r.ended_at is distinct from x.ended_at::timestamptz then 'ended_at' end,
        case when r.updated_at is distinct from x.updated_at::timestamptz then 'updated_at' end,
        case when r.correlation_id is distinct from x.correlation_id then 'correlation_id' end,
        case when r.last_event_id is distinct from x.last_event_id::uuid then 'last_event_id' end,
        case when r.stream_seq is distinct from x.stream_seq then 'stream_seq' end
    ], ', ') as columns
from unnest(
    $1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[], $9::text[],
    $10::text[], $11::text[], $12::text[], $13::text[], $14::text[], $15::text[], $16::text[], $17::text[],
    $18::text[], $19::bigint[]
) as x (
    run_id, workspace_id, room_id, thread_id, status, title, goal, input, output, error, summary, tags,
    created_at, started_at, ended_at, updated_at, correlation_id, last_event_id, stream_seq
)
left join proj_runs as r on r.run_id = x.run_id
where
    r.run_id is null
    or (
        r.workspace_id, r.room_id, r.thread_id, r.status, r.title, r.goal, r.input::text, r.output::text,
        r.error::text, r.summary, r.tags, r.created_at, r.started_at, r.ended_at, r.updated_at, r.correlation_id,
        r.last_event_id, r.stream_seq
    ) is distinct from (
        x.workspace_id, x.room_id, x.thread_id, x.status, x.title, x.goal, x.input, x.output,
        x.error, x.summary, x.tags::text[], x.created_at::timestamptz, x.started_at::timestamptz,
        x.ended_at::timestamptz, x.updated_at::timestamptz, x.correlation_id, x.last_event_id::uuid, x.stream_seq
    )
