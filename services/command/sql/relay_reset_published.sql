-- Sets back what rooms have published to what the stream really holds. Events older than the stream keeps are not
-- published again: readers have them from the event store. Locks the rooms in the writers' order.
-- $1 text[], $2 text[], $3 bigint[]: workspace, room, stream_seq found on the stream (0: none); $4 timestamptz: the
-- oldest time the stream would still keep
with locked as (
    select rooms.workspace_id, rooms.room_id, room.found_seq
    from rooms
    join unnest($1::text[], $2::text[], $3::bigint[]) as room (workspace_id, room_id, found_seq)
        using (workspace_id, room_id)
    where rooms.published_seq > room.found_seq
    order by rooms.workspace_id, rooms.room_id
    for update of rooms
)
update rooms set published_seq = greatest(
    locked.found_seq,
    coalesce((
        select max(events.stream_seq) from events
        where events.workspace_id = rooms.workspace_id and events.room_id = rooms.room_id
            and events.recorded_at < $4::timestamptz and events.stream_seq <= rooms.published_seq
    ), 0)
)
from locked
where rooms.workspace_id = locked.workspace_id and rooms.room_id = locked.room_id
