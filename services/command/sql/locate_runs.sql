-- The rooms of runs whose rooms this process has not seen yet. A run never moves, so no lock is needed.
-- One whose room has a name that no room can have is none: there may be anything in the store. Lengths come
-- first, which are known without reading what is that long.
-- $1 text[]: run ids
select run_id, workspace_id, room_id
from runs
where
    run_id = any($1)
    and case when octet_length(workspace_id) <= 128 and octet_length(room_id) <= 128
        then workspace_id ~ '^[A-Za-z0-9_-]+$' and room_id ~ '^[A-Za-z0-9_-]+$'
    end
