-- The indexes of one version of the projection runs, which are made when its tables are filled.
create index proj_runs_vN_newest on proj_runs_vN (workspace_id, created_at desc, run_id desc);
create index proj_runs_vN_room on proj_runs_vN (workspace_id, room_id, created_at desc, run_id desc);
create index proj_runs_vN_thread on proj_runs_vN (workspace_id, thread_id, created_at desc, run_id desc)
where thread_id is not null;
create index proj_runs_vN_status on proj_runs_vN (workspace_id, status, created_at desc, run_id desc);
create index proj_runs_vN_correlation on proj_runs_vN (workspace_id, correlation_id, created_at desc, run_id desc);
create index proj_steps_vN_run on proj_steps_vN (run_id, stream_seq);

-- Runs by tag, newest first: an index that PostgreSQL has no kind for, kept by a trigger from here on. A run is in it once
-- for each of its tags.
create table proj_run_tags_vN (
    workspace_id text collate "C" not null,
    tag text collate "C" not null,
    created_at timestamptz not null,
    run_id text collate "C" not null,
    room_id text collate "C" not null,
    constraint proj_run_tags_vN_forms check (
        octet_length(workspace_id) <= 128
        and octet_length(tag) <= 1024
        and created_at >= '2000-01-01Z' and created_at < '3000-01-01Z'
        and octet_length(run_id) <= 128
        and octet_length(room_id) <= 128
    )
);
create trigger proj_runs_vN_tags after insert on proj_runs_vN
referencing new table as added for each statement execute function proj_run_tags_add();
insert into proj_run_tags_vN (workspace_id, tag, created_at, run_id, room_id)
select r.workspace_id, t.tag, r.created_at, r.run_id, r.room_id
from proj_runs_vN as r cross join lateral (select distinct u.tag from unnest(r.tags) as u (tag)) as t;
create index proj_run_tags_vN_newest on proj_run_tags_vN (workspace_id, tag, created_at desc, run_id desc)
include (room_id);
