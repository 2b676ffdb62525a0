-- From the event store: how far the rooms are published, and where the relay stands.
select r.workspace_id, r.room_id, r.published_seq, relay.stream_created || '/' || relay.stream_position as relay
from unnest($1::text[], $2::text[]) as x (workspace_id, room_id)
join rooms as r on r.workspace_id = x.workspace_id and r.room_id = x.room_id
cross join relay
