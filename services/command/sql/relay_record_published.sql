-- What the stream has acknowledged, and where the relay stands in it now. Locks the rooms in the writers' order.
-- $1 text[], $2 text[], $3 bigint[]: workspace, room, last published stream_seq; $4 text, $5 bigint, $6 bigint: the
-- stream's created, epoch and position
with locked as (
    select rooms.workspace_id, rooms.room_id, room.published_seq
    from rooms
    join unnest($1::text[], $2::text[], $3::bigint[]) as room (workspace_id, room_id, published_seq)
        using (workspace_id, room_id)
    order by rooms.workspace_id, rooms.room_id
    for update of rooms
),
moved as (
    update rooms set published_seq = greatest(rooms.published_seq, least(locked.published_seq, rooms.last_seq))
    from locked
    where rooms.workspace_id = locked.workspace_id and rooms.room_id = locked.room_id
)
update relay set stream_created = $4, stream_epoch = $5, stream_position = $6
