-- The state of runs; their rooms are locked by now.
-- $1 text[]: run ids
select run_id, workspace_id, room_id, thread_id, status, version, last_event_id, correlation_id
from runs where run_id = any($1)
