-- How far rooms, of which the stream holds less than was published, are to be set back: to what it holds of them, or to
-- their last event that is older than it keeps. Times rise with the numbers: of each room a few events are looked at, and
-- no room is locked meanwhile.
-- $1 text[], $2 text[], $3 bigint[]: workspace, room, stream_seq found on the stream (0: none); $4 timestamptz: the
-- oldest time the stream would still keep
with recursive search as (
    select rooms.workspace_id, rooms.room_id, room.found_seq as low, rooms.published_seq as high
    from rooms
    join unnest($1::text[], $2::text[], $3::bigint[]) as room (workspace_id, room_id, found_seq)
        using (workspace_id, room_id)
    where rooms.published_seq > room.found_seq
    union all
    select
        search.workspace_id,
        search.room_id,
        case when found.is_old then middle.stream_seq else search.low end,
        case when found.is_old then search.high else middle.stream_seq - 1 end
    from search
    cross join lateral (select search.high - (search.high - search.low) / 2 as stream_seq) as middle
    cross join lateral (
        select coalesce((
            select events.recorded_at < $4::timestamptz from events
            where events.workspace_id = search.workspace_id and events.room_id = search.room_id
                and events.stream_seq = middle.stream_seq
        ), false) as is_old
    ) as found
    where search.low < search.high
)
select workspace_id, room_id, low as stream_seq from search where low = high
