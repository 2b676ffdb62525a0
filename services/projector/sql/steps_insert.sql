-- Writes new steps. A step has one event so far, so a row that is there is already right.
insert into proj_steps_v1 (
    step_id, run_id, workspace_id, room_id, thread_id, kind, status, title, input, output, error,
    created_at, updated_at, last_event_id, stream_seq
)
select
    x.step_id, x.run_id, x.workspace_id, x.room_id, x.thread_id, x.kind, 'queued', x.title, x.input::json, '{}', '{}',
    x.created_at::timestamptz, x.created_at::timestamptz, x.last_event_id::uuid, x.stream_seq
from unnest(
    $1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[], $9::text[],
    $10::text[], $11::bigint[]
) as x (
    step_id, run_id, workspace_id, room_id, thread_id, kind, title, input, created_at, last_event_id, stream_seq
)
on conflict (step_id) do nothing
