-- The rooms of runs whose rooms this process has not seen yet. A run never moves, so no lock is needed.
-- $1 text[]: run ids
select run_id, workspace_id, room_id from runs where run_id = any($1)
