-- The next rooms of a partition that are yet to be filled, in key order.
select workspace_id, room_id from proj_rooms
where projection = $1 and partition = $2 and applied_seq = 0 and (workspace_id, room_id) > ($3, $4)
order by workspace_id, room_id
limit $5
