-- From the event store: how many events a room has.
select last_seq from rooms where workspace_id = $1 and room_id = $2
