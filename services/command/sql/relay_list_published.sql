-- Rooms of which something was published, in key order.
-- $1 text, $2 text: workspace and room to go on after; $3 integer: most rooms
select workspace_id, room_id from rooms
where published_seq > 0 and (workspace_id, room_id) > ($1, $2)
order by workspace_id, room_id
limit $3
