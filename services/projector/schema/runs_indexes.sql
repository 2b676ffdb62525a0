-- The indexes of one version of the projection runs, which are made when its tables are filled.
create index proj_runs_vN_newest on proj_runs_vN (workspace_id, created_at desc, run_id desc);
create index proj_runs_vN_room on proj_runs_vN (workspace_id, room_id, created_at desc, run_id desc);
create index proj_runs_vN_thread on proj_runs_vN (workspace_id, thread_id, created_at desc, run_id desc)
where thread_id is not null;
create index proj_runs_vN_status on proj_runs_vN (workspace_id, status, created_at desc, run_id desc);
create index proj_runs_vN_correlation on proj_runs_vN (workspace_id, correlation_id, created_at desc, run_id desc);
-- Of all rows, untagged ones too: a partial index would need its condition repeated in every query, and the planner would
-- count it twice.
create index proj_runs_vN_tags on proj_runs_vN using gin (tags);
create index proj_steps_vN_run on proj_steps_vN (run_id, stream_seq);
