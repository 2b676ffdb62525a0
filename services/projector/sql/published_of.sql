-- From the event store: how many events each of the given rooms has, and how far it was published.
select r.workspace_id, r.room_id, r.published_seq, r.last_seq
from unnest($1::text[], $2::text[]) as x (workspace_id, room_id)
join rooms as r on r.workspace_id = x.workspace_id and r.room_id = x.room_id
