-- Which of the steps folded afresh are missing or different, and in which columns. Parameters as of steps_insert.
select
    x.step_id, x.workspace_id, x.room_id, s.step_id is null as missing,
    array_to_string(array[
        case when s.run_id is distinct from x.run_id then 'run_id' end,
        case when s.workspace_id is distinct from x.workspace_id then 'workspace_id' end,
        case when s.room_id is distinct from x.room_id then 'room_id' end,
        case when s.thread_id is distinct from x.thread_id then 'thread_id' end,
        case when s.kind is distinct from x.kind then 'kind' end,
        case when s.status is distinct from 'queued' then 'status' end,
        case when s.title is distinct from x.title then 'title' end,
        case when s.input::text is distinct from x.input then 'input' end,
        case when s.output::text is distinct from '{}' then 'output' end,
        case when s.error::text is distinct from '{}' then 'error' end,
        case when s.created_at is distinct from x.created_at::timestamptz then 'created_at' end,
        case when s.updated_at is distinct from x.created_at::timestamptz then 'updated_at' end,
        case when s.last_event_id is distinct from x.last_event_id::uuid then 'last_event_id' end,
        case when s.stream_seq is distinct from x.stream_seq then 'stream_seq' end
    ], ', ') as columns
from unnest(
    $1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[], $9::text[],
    $10::text[], $11::bigint[]
) as x (
    step_id, run_id, workspace_id, room_id, thread_id, kind, title, input, created_at, last_event_id, stream_seq
)
left join proj_steps as s on s.step_id = x.step_id
where
    s.step_id is null
    or (
        s.run_id, s.workspace_id, s.room_id, s.thread_id, s.kind, s.status, s.title, s.input::text, s.output::text,
        s.error::text, s.created_at, s.updated_at, s.last_event_id, s.stream_seq
    ) is distinct from (
        x.run_id, x.workspace_id, x.room_id, x.thread_id, x.kind, 'queued', x.title, x.input, '{}',
        '{}', x.created_at::timestamptz, x.created_at::timestamptz, x.last_event_id::uuid, x.stream_seq
    )
