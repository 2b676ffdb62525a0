-- From the event store: rooms with events that are yet to be published, which an index holds apart from the others.
select workspace_id, room_id, published_seq, last_seq from rooms
where published_seq < last_seq
order by workspace_id, room_id
limit $1
