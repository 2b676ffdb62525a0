-- The event store: rooms, events, the run state decisions need, idempotent outcomes
-- depends:
-- migrate: apply

-- One row a room. Its lock serialises the room, so that commit order is stream_seq order.
-- published_seq < last_seq is the outbox.
create table rooms (
    workspace_id text collate "C" not null,
    room_id text collate "C" not null,
    last_seq bigint not null default 0,
    published_seq bigint not null default 0,
    primary key (workspace_id, room_id),
    check (0 <= published_seq and published_seq <= last_seq)
) with (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.05);

create index rooms_unpublished on rooms (workspace_id, room_id) where published_seq < last_seq;

-- The only truth. envelope is the exact bytes that are published.
create table events (
    workspace_id text collate "C" not null,
    room_id text collate "C" not null,
    stream_seq bigint not null check (stream_seq > 0),
    event_id uuid not null,
    run_id text collate "C" not null,
    event_type text collate "C" not null,
    event_version smallint not null,
    recorded_at timestamptz not null,
    traceparent text,
    envelope bytea not null,
    primary key (workspace_id, room_id, stream_seq),
    unique (event_id)
);

create function refuse_event_change() returns trigger language plpgsql as $$
begin
    raise exception 'events are append-only' using errcode = 'insufficient_privilege';
end
$$;

create trigger events_append_only before update or delete on events
for each row execute function refuse_event_change();

create trigger events_no_truncate before truncate on events
for each statement execute function refuse_event_change();

-- The state that decisions need, O(1) to load.
create table runs (
    run_id text collate "C" primary key,
    workspace_id text collate "C" not null,
    room_id text collate "C" not null,
    thread_id text collate "C",
    status text collate "C" not null check (status in ('queued', 'running', 'succeeded', 'failed')),
    version integer not null,
    last_event_id uuid not null,
    correlation_id text not null
) with (fillfactor = 70);

-- First outcomes of commands with an Idempotency-Key.
create table commands (
    workspace_id text collate "C" not null,
    idempotency_key text collate "C" not null,
    fingerprint bytea not null,
    status smallint not null,
    response bytea not null,
    expires_at timestamptz not null,
    primary key (workspace_id, idempotency_key)
);

create index commands_expiry on commands (expires_at);

-- Where the relay stands in the stream, and in which stream: one row.
create table relay (
    id boolean primary key default true check (id),
    stream_created text not null default '',
    stream_epoch bigint not null default 0,
    stream_position bigint not null default 0
);

insert into relay default values;

-- migrate: rollback

drop table relay, commands, runs, events, rooms;
drop function refuse_event_change();
