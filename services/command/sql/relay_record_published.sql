-- What the stream has acknowledged, and where the relay stands in it now.
-- $1 text[], $2 text[], $3 bigint[]: workspace, room, last published stream_seq; $4 text, $5 bigint, $6 bigint: the
-- stream's created, epoch and position
with moved as (
    update rooms set published_seq = greatest(rooms.published_seq, least(room.published_seq, rooms.last_seq))
    from unnest($1::text[], $2::text[], $3::bigint[]) as room (workspace_id, room_id, published_seq)
    where rooms.workspace_id = room.workspace_id and rooms.room_id = room.room_id
)
update relay set stream_created = $4, stream_epoch = $5, stream_position = $6
