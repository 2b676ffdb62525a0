-- The tables of one version of the projection runs; vN stands for the version. A change goes here, and by a rebuild.
create table proj_runs_vN (
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
    stream_seq bigint not null,
    -- Nulls are well: what is null is not false.
    constraint proj_runs_vN_forms check (
        created_at >= '2000-01-01Z' and created_at < '3000-01-01Z'
        and started_at >= '2000-01-01Z' and started_at < '3000-01-01Z'
        and ended_at >= '2000-01-01Z' and ended_at < '3000-01-01Z'
        and updated_at >= '2000-01-01Z' and updated_at < '3000-01-01Z'
    )
) with (fillfactor = 70);

create table proj_steps_vN (
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
    stream_seq bigint not null,
    constraint proj_steps_vN_forms check (
        created_at >= '2000-01-01Z' and created_at < '3000-01-01Z'
        and updated_at >= '2000-01-01Z' and updated_at < '3000-01-01Z'
    )
);
