-- Everything a batch writes, in one statement. Gives how many outcomes were stored: fewer than were sent means that
-- another writer stored one of the keys since it was looked up.
-- $1-$9 events: workspace, room, stream_seq, event_id, run_id, event_type, event_version, traceparent, envelope
-- $10 timestamptz: when they were recorded
-- $11-$13 rooms: workspace, room, last_seq
-- $14-$21 runs: run_id, workspace, room, thread, status, version, last_event_id, correlation_id
-- $22-$27 outcomes: workspace, key, fingerprint, status, response, expires_at
with appended as (
    insert into events (
        workspace_id, room_id, stream_seq, event_id, run_id, event_type, event_version, traceparent, envelope, recorded_at
    )
    select event.*, $10::timestamptz
    from unnest(
        $1::text[], $2::text[], $3::bigint[], $4::uuid[], $5::text[], $6::text[], $7::smallint[], $8::text[], $9::bytea[]
    ) as event
),
moved as (
    update rooms set last_seq = room.last_seq
    from unnest($11::text[], $12::text[], $13::bigint[]) as room (workspace_id, room_id, last_seq)
    where rooms.workspace_id = room.workspace_id and rooms.room_id = room.room_id
),
evolved as (
    insert into runs (
        run_id, workspace_id, room_id, thread_id, status, version, last_event_id, correlation_id
    )
    select * from unnest(
        $14::text[], $15::text[], $16::text[], $17::text[], $18::text[], $19::integer[], $20::uuid[], $21::text[]
    )
    on conflict (run_id) do update set
        status = excluded.status, version = excluded.version, last_event_id = excluded.last_event_id
),
remembered as (
    insert into commands (workspace_id, idempotency_key, fingerprint, status, response, expires_at)
    select * from unnest($22::text[], $23::text[], $24::bytea[], $25::smallint[], $26::bytea[], $27::timestamptz[])
    as outcome (workspace_id, idempotency_key, fingerprint, status, response, expires_at)
    order by workspace_id, idempotency_key
    on conflict (workspace_id, idempotency_key) do update set
        fingerprint = excluded.fingerprint, status = excluded.status, response = excluded.response,
        expires_at = excluded.expires_at
    where commands.expires_at <= $10::timestamptz
    returning 1
)
select count(*) from remembered
