-- Sets back what rooms have published, of those rooms that nobody has locked. Gives the rooms to be set back that somebody
-- has.
-- $1 text[], $2 text[], $3 bigint[]: workspace, room, stream_seq up to which it stays published
with free as (
    select rooms.workspace_id, rooms.room_id, room.kept_seq
    from rooms
    join unnest($1::text[], $2::text[], $3::bigint[]) as room (workspace_id, room_id, kept_seq)
        using (workspace_id, room_id)
    where rooms.published_seq > room.kept_seq
    for update of rooms skip locked
),
moved as (
    update rooms set published_seq = least(rooms.published_seq, free.kept_seq)
    from free
    where rooms.workspace_id = free.workspace_id and rooms.room_id = free.room_id
)
select workspace_id, room_id
from rooms
join unnest($1::text[], $2::text[], $3::bigint[]) as room (workspace_id, room_id, kept_seq)
    using (workspace_id, room_id)
where rooms.published_seq > room.kept_seq and (workspace_id, room_id) not in (select workspace_id, room_id from free)
