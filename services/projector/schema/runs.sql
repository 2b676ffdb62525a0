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
    -- What a command of 1 MiB can lead to: text is no longer than it was, JSON four times. A null is well.
    constraint proj_runs_vN_forms check (
        octet_length(run_id) <= 128
        and octet_length(workspace_id) <= 128
        and octet_length(room_id) <= 128
        and octet_length(thread_id) <= 128
        and octet_length(status) <= 128
        and octet_length(correlation_id) <= 512
        and octet_length(title) <= 2097152
        and octet_length(goal) <= 2097152
        and octet_length(summary) <= 2097152
        and pg_column_size(input) <= 8388608
        and pg_column_size(output) <= 8388608
        and pg_column_size(error) <= 8388608
        and pg_column_size(tags) <= 131072
        and created_at >= '2000-01-01Z' and created_at < '3000-01-01Z'
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
        octet_length(step_id) <= 128
        and octet_length(run_id) <= 128
        and octet_length(workspace_id) <= 128
        and octet_length(room_id) <= 128
        and octet_length(thread_id) <= 128
        and octet_length(status) <= 128
        and octet_length(kind) <= 2097152
        and octet_length(title) <= 2097152
        and pg_column_size(input) <= 8388608
        and pg_column_size(output) <= 8388608
        and pg_column_size(error) <= 8388608
        and created_at >= '2000-01-01Z' and created_at < '3000-01-01Z'
        and updated_at >= '2000-01-01Z' and updated_at < '3000-01-01Z'
    )
);
