-- The next rooms of a version, in key order.
select workspace_id, room_id from proj_rooms
where projection = $1 and (workspace_id, room_id) > ($2, $3)
order by workspace_id, room_id
limit $4
