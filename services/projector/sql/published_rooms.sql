-- From the event store: a page of rooms in key order, and how far each was published.
select workspace_id, room_id, published_seq
from rooms
where (workspace_id, room_id) > ($1, $2)
order by workspace_id, room_id
limit $3
