-- The query service: the views, and nothing that lies behind them or beside them.
grant usage on schema public to runroom_query;

grant select on proj_runs, proj_steps, proj_run_tags, proj_room_events, proj_applied to runroom_query;
grant execute on function proj_plain_bytes(json, json, json, text[]) to runroom_query;
grant execute on function proj_bytes_until(bigint, json, json, json, text[]) to runroom_query;
