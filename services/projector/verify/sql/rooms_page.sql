-- From the event store: the next rooms in key order, and how many events each has.
select workspace_id, room_id, last_seq from rooms
where (workspace_id, room_id) > ($1, $2)
order by workspace_id, room_id
limit $3
