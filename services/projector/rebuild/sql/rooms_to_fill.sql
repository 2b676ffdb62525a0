-- The next rooms after one key and up to another that are yet to be filled, in key order.
select workspace_id, room_id from proj_rooms
where
    projection = $5 and applied_seq = 0 and (workspace_id, room_id) > ($1, $2)
    and ($3::text is null or (workspace_id, room_id) <= ($3, $4::text))
order by workspace_id, room_id
limit $6
