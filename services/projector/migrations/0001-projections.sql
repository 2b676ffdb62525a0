-- Projections of runs, steps and room events, and how far each has come
-- depends:
-- migrate: apply

-- Worker processes, which projections each runs, and until when it counts as alive by this database's clock.
-- Leases are shared out evenly among the living.
create table projector_workers (
    worker_id text collate "C" primary key,
    projections text[] not null,
    expires_at timestamptz not null
);

-- Who applies which partition, and up to where. A lease lasts as long as its owner is alive, so that renewing all of a
-- worker's leases is one row's write. epoch is the fence: it grows with every change of owner.
-- stream_position is the last position applied, in the stream called stream_identity.
create table projector_leases (
    projection text collate "C" not null,
    partition smallint not null,
    owner text collate "C",
    epoch bigint not null default 0,
    stream_identity text not null default '',
    stream_position bigint not null default 0,
    primary key (projection, partition)
) with (fillfactor = 50);

-- How far each room has come, per projection; moves in the transaction that applies.
create table proj_rooms (
    projection text collate "C" not null,
    workspace_id text collate "C" not null,
    room_id text collate "C" not null,
    partition smallint not null,
    applied_seq bigint not null,
    updated_at timestamptz not null default now(),
    primary key (projection, workspace_id, room_id)
) with (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.05);

-- Tables carry the version of the projection that fills them; the views are what readers use.
create table proj_runs_v1 (
    run_id text collate "C" primary key,
    workspace_id text collate "C" not null,
    room_id text collate "C" not null,
    thread_id text collate "C",
    status text collate "C" not null,
    title text,
    goal text,
    input json not null,
    output json not null,
    error json not null,
    summary text,
    tags text[] not null,
    created_at timestamptz not null,
    started_at timestamptz,
    ended_at timestamptz,
    updated_at timestamptz not null,
    correlation_id text not null,
    last_event_id uuid not null,
    stream_seq bigint not null
) with (fillfactor = 70);

create index proj_runs_v1_newest on proj_runs_v1 (workspace_id, created_at desc, run_id desc);
create index proj_runs_v1_room on proj_runs_v1 (workspace_id, room_id, created_at desc, run_id desc);
create index proj_runs_v1_thread on proj_runs_v1 (workspace_id, thread_id, created_at desc, run_id desc)
where thread_id is not null;
create index proj_runs_v1_status on proj_runs_v1 (workspace_id, status, created_at desc, run_id desc);
create index proj_runs_v1_correlation on proj_runs_v1 (workspace_id, correlation_id, created_at desc, run_id desc);
-- Of all rows, untagged ones too: a partial index would need its condition repeated in every query, and the planner would
-- count it twice.
create index proj_runs_v1_tags on proj_runs_v1 using gin (tags);

create table proj_steps_v1 (
    step_id text collate "C" primary key,
    run_id text collate "C" not null,
    workspace_id text collate "C" not null,
    room_id text collate "C" not null,
    thread_id text collate "C",
    kind text not null,
    status text collate "C" not null,
    title text,
    input json not null,
    output json not null,
    error json not null,
    created_at timestamptz not null,
    updated_at timestamptz not null,
    last_event_id uuid not null,
    stream_seq bigint not null
);

create index proj_steps_v1_run on proj_steps_v1 (run_id, stream_seq);

-- What SSE serves as history: the envelope bytes as they are.
-- stream_position is where the stream held the event when it was applied: a hint for readers that go
-- on from the stream, never more than a hint.
create table proj_room_events_v1 (
    workspace_id text collate "C" not null,
    room_id text collate "C" not null,
    stream_seq bigint not null,
    stream_position bigint not null,
    envelope bytea not null,
    primary key (workspace_id, room_id, stream_seq)
);

create view proj_runs as select * from proj_runs_v1;
create view proj_steps as select * from proj_steps_v1;
create view proj_room_events as select * from proj_room_events_v1;

-- migrate: rollback

drop view proj_room_events, proj_steps, proj_runs;
drop table proj_room_events_v1, proj_steps_v1, proj_runs_v1, proj_rooms, projector_leases, projector_workers;
