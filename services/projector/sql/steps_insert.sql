-- Writes new steps. A step has one event so far, so a row of that event that is there is already right.
-- Returns the steps that are another event's, with the rooms that were to have them.
with written as (
    insert into proj_steps_v1 as s (
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
    returning s.step_id, s.workspace_id, s.room_id, s.stream_seq
)

select g.step_id, g.workspace_id, g.room_id
from unnest($1::text[], $3::text[], $4::text[], $11::bigint[]) as g (step_id, workspace_id, room_id, stream_seq)
where not (
    (g.step_id, g.workspace_id, g.room_id, g.stream_seq) in (
        select w.step_id, w.workspace_id, w.room_id, w.stream_seq from written as w
    )
    or exists (
        select from proj_steps_v1 as s
        where
            s.step_id = g.step_id
            and (s.workspace_id, s.room_id, s.stream_seq) is not distinct from (g.workspace_id, g.room_id, g.stream_seq)
    )
)
