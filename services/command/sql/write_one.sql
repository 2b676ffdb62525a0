-- What write_batch does, for one event of one run and at most one idempotency key: if the room is where the event takes
-- it to be, and the key is new. Says "written"; or "moved", or "used", and then nothing was.
-- $1-$9 the event: workspace, room, stream_seq, event_id, run_id, event_type, event_version, traceparent, envelope
-- $10 timestamptz: when it was recorded
-- $11-$14 its run: thread, status, version, correlation_id
-- $15-$19 the outcome: key, or null, fingerprint, status, response, expires_at
with used as materialized (
    select
    from commands
    where workspace_id = $1 and idempotency_key = $15::text and expires_at > $10::timestamptz
),
-- Locks the room, finds it where it was, and moves it on, in one look at it.
moved as (
    update rooms set last_seq = $3::bigint
    where workspace_id = $1::text and room_id = $2::text and last_seq = $3::bigint - 1 and not exists (select from used)
    returning 1
),
appended as (
    insert into events (
        workspace_id, room_id, stream_seq, event_id, run_id, event_type, event_version, traceparent, envelope, recorded_at
    )
    select $1, $2, $3, $4::uuid, $5::text, $6::text, $7::smallint, $8::text, $9::bytea, $10
    from moved
),
evolved as (
    insert into runs (run_id, workspace_id, room_id, thread_id, status, version, last_event_id, correlation_id)
    select $5, $1, $2, $11::text, $12::text, $13::integer, $4, $14::text
    from moved
    on conflict (run_id) do update set
        status = excluded.status, version = excluded.version, last_event_id = excluded.last_event_id
),
remembered as (
    insert into commands (workspace_id, idempotency_key, fingerprint, status, response, expires_at)
    select $1, $15, $16::bytea, $17::smallint, $18::bytea, $19::timestamptz
    from moved
    where $15 is not null
    on conflict (workspace_id, idempotency_key) do update set
        fingerprint = excluded.fingerprint, status = excluded.status, response = excluded.response,
        expires_at = excluded.expires_at
    where commands.expires_at <= $10
    returning 1
)
-- A key that another writer stored since this statement began: the division by zero takes back all of it.
select case
    when exists (select from used) then 'used'
    when not exists (select from moved) then 'moved'
    when $15 is not null and not exists (select from remembered)
        then (1 / (select count(*) - count(*) from remembered))::text
    else 'written'
end
