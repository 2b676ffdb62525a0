-- What the stream has acknowledged, of those rooms that nobody has locked. Gives the rooms that somebody has.
-- $1 text[], $2 text[], $3 bigint[]: workspace, room, last published stream_seq
with free as (
    select rooms.workspace_id, rooms.room_id, room.published_seq
    from rooms
    join unnest($1::text[], $2::text[], $3::bigint[]) as room (workspace_id, room_id, published_seq)
        using (workspace_id, room_id)
    for update of rooms skip locked
),
moved as (
    update rooms set published_seq = greatest(rooms.published_seq, least(free.published_seq, rooms.last_seq))
    from free
    where rooms.workspace_id = free.workspace_id and rooms.room_id = free.room_id
)
select workspace_id, room_id
from rooms
join unnest($1::text[], $2::text[]) as room (workspace_id, room_id) using (workspace_id, room_id)
where (workspace_id, room_id) not in (select workspace_id, room_id from free)
