-- From the event store: which of the given runs are another room's. A run is of the room that its state was begun in, and no
-- service can change that. Each is looked up by itself, however many there are.
select x.run_id, x.workspace_id, x.room_id
from unnest($1::text[], $2::text[], $3::text[]) as x (run_id, workspace_id, room_id)
cross join lateral (
    select workspace_id, room_id from runs where run_id = x.run_id
    offset 0
) as r
where (r.workspace_id, r.room_id) <> (x.workspace_id, x.room_id)
