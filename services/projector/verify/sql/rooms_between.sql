-- From the event store: all rooms after one key and up to another, which may be null for the end.
select workspace_id, room_id, last_seq, published_seq from rooms
where (workspace_id, room_id) > ($1, $2) and ($3::text is null or (workspace_id, room_id) <= ($3, $4::text))
order by workspace_id, room_id
