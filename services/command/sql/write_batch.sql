-- Everything a batch writes, in one statement: if its rooms are where it takes them to be, and its keys are new. Says
-- "written"; or "moved", or "used", and then nothing was.
-- $1-$9 events: workspace, room, stream_seq, event_id, run_id, event_type, event_version, traceparent, envelope
-- $10 timestamptz: when they were recorded
-- $11-$13 rooms that get events: workspace, room, last_seq
-- $14-$21 runs: run_id, workspace, room, thread, status, version, last_event_id, correlation_id
-- $22-$27 outcomes: workspace, key, fingerprint, status, response, expires_at
-- $28-$30 all rooms the batch was decided on: workspace, room, last_seq as it was
with locked as materialized (
    select rooms.last_seq = room.last_seq as is_there
    from rooms
    join unnest($28::text[], $29::text[], $30::bigint[]) as room (workspace_id, room_id, last_seq)
        using (workspace_id, room_id)
    order by rooms.workspace_id, rooms.room_id
    for update of rooms
),
checked as materialized (
    select case
        when (select count(*) from locked where is_there) < cardinality($28::text[]) then 'moved'
        when exists (
            select from commands
            join unnest($22::text[], $23::text[]) as outcome (workspace_id, idempotency_key)
                using (workspace_id, idempotency_key)
            where commands.expires_at > $10::timestamptz
        ) then 'used'
        else 'written'
    end as result
),
appended as (
    insert into events (
        workspace_id, room_id, stream_seq, event_id, run_id, event_type, event_version, traceparent, envelope, recorded_at
    )
    select event.*, $10::timestamptz
    from unnest(
        $1::text[], $2::text[], $3::bigint[], $4::uuid[], $5::text[], $6::text[], $7::smallint[], $8::text[], $9::bytea[]
    ) as event
    where (select result from checked) = 'written'
),
moved as (
    update rooms set last_seq = room.last_seq
    from unnest($11::text[], $12::text[], $13::bigint[]) as room (workspace_id, room_id, last_seq)
    where rooms.workspace_id = room.workspace_id and rooms.room_id = room.room_id
        and (select result from checked) = 'written'
),
evolved as (
    insert into runs (
        run_id, workspace_id, room_id, thread_id, status, version, last_event_id, correlation_id
    )
    select * from unnest(
        $14::text[], $15::text[], $16::text[], $17::text[], $18::text[], $19::integer[], $20::uuid[], $21::text[]
    )
    where (select result from checked) = 'written'
    on conflict (run_id) do update set
        status = excluded.status, version = excluded.version, last_event_id = excluded.last_event_id
),
remembered as (
    insert into commands (workspace_id, idempotency_key, fingerprint, status, response, expires_at)
    select * from unnest($22::text[], $23::text[], $24::bytea[], $25::smallint[], $26::bytea[], $27::timestamptz[])
    as outcome (workspace_id, idempotency_key, fingerprint, status, response, expires_at)
    where (select result from checked) = 'written'
    order by workspace_id, idempotency_key
    on conflict (workspace_id, idempotency_key) do update set
        fingerprint = excluded.fingerprint, status = excluded.status, response = excluded.response,
        expires_at = excluded.expires_at
    where commands.expires_at <= $10::timestamptz
    returning 1
)
-- A key that another writer stored since this statement began: the division by zero takes back all of it.
select case
    when result = 'written' and (select count(*) from remembered) < cardinality($22::text[])
        then (1 / (select count(*) - count(*) from remembered))::text
    else result
end
from checked
