-- The query service: the views, and nothing that lies behind them or beside them.
values
('schema public', 'usage'),
('table proj_runs', 'select'),
('table proj_steps', 'select'),
('table proj_run_tags', 'select'),
('table proj_room_events', 'select'),
('table proj_applied', 'select'),
('function proj_plain_bytes(json, json, json, text[])', 'execute'),
('function proj_bytes_until(bigint, json, json, json, text[])', 'execute')
