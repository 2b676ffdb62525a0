-- How many rooms have something to publish, how many events, and the age in seconds of the oldest that the broker would
-- take, among those of the first 1000 rooms: a room whose next event is larger, or not of the form of ours, waits for
-- somebody to see to that.
-- $1 bigint: bytes of the largest event the broker takes, null when that is not known
select
    (select count(*) from rooms where published_seq < last_seq) as rooms,
    (
        select least(coalesce(sum(last_seq - published_seq), 0), 9223372036854775807)::bigint
        from rooms where published_seq < last_seq
    ) as events,
    (
        select coalesce(greatest(extract(epoch from clock_timestamp() - min(event.recorded_at)), 0), 0)::float8
        from (
            select workspace_id, room_id, published_seq from rooms where published_seq < last_seq limit 1000
        ) as room
        join events as event
            on event.workspace_id = room.workspace_id
            and event.room_id = room.room_id
            and event.stream_seq = room.published_seq + 1
        where ($1::bigint is null or octet_length(event.envelope) <= $1::bigint)
            and event.workspace_id ~ '^[A-Za-z0-9_-]{1,128}$'
            and event.room_id ~ '^[A-Za-z0-9_-]{1,128}$'
            and event.event_type ~ '^[ -~]{1,128}$'
            and coalesce(event.traceparent ~ '^[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$', true)
    ) as seconds
