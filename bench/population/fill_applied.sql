-- Says of rooms that so many of their events are applied; $1 workspace_id, $2 room_ids, $3 events.
insert into proj_rooms (projection, workspace_id, room_id, partition, applied_seq)
select 'room_feed', $1::text, room_id, 0, $3::integer
from unnest($2::text[]) as room_id
