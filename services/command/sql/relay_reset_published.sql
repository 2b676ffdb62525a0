-- Sets back what rooms have published to what the stream really holds, of those rooms that nobody has locked. Events older
-- than the stream keeps are not published again: readers have them from the event store. Gives the rooms to be set back
-- that somebody has.
-- $1 text[], $2 text[], $3 bigint[]: workspace, room, stream_seq found on the stream (0: none); $4 timestamptz: the
-- oldest time the stream would still keep
with free as (
    select rooms.workspace_id, rooms.room_id, room.found_seq
    from rooms
    join unnest($1::text[], $2::text[], $3::bigint[]) as room (workspace_id, room_id, found_seq)
        using (workspace_id, room_id)
    where rooms.published_seq > room.found_seq
    for update of rooms skip locked
),
moved as (
    update rooms set published_seq = greatest(
        free.found_seq,
        coalesce((
            select max(events.stream_seq) from events
            where events.workspace_id = rooms.workspace_id and events.room_id = rooms.room_id
                and events.recorded_at < $4::timestamptz and events.stream_seq <= rooms.published_seq
        ), 0)
    )
    from free
    where rooms.workspace_id = free.workspace_id and rooms.room_id = free.room_id
)
select workspace_id, room_id
from rooms
join unnest($1::text[], $2::text[], $3::bigint[]) as room (workspace_id, room_id, found_seq)
    using (workspace_id, room_id)
where rooms.published_seq > room.found_seq and (workspace_id, room_id) not in (select workspace_id, room_id from free)
