-- The next events to publish: of rooms in key order from a room on, each room's in stream_seq order, as far as the
-- number and the bytes go, and as its numbers follow on each other. Of a room whose next event is not there, whatever
-- is behind it, one row with nothing but the room. An envelope that is too large comes as null, a type or a trace that
-- is too long as what is none: there may be anything in the store.
-- $1 text, $2 text: workspace and room to go on after; $3 integer: most rows; $4 bigint: most bytes, but the first always
-- comes; $5 bigint: bytes of the largest envelope to give
select workspace_id, room_id, stream_seq, event_id, event_type, traceparent, envelope
from (
    select
        room.workspace_id,
        room.room_id,
        event.*,
        sum(coalesce(octet_length(event.envelope), 0)) over (order by room.workspace_id, room.room_id, event.stream_seq)
        - coalesce(octet_length(event.envelope), 0) as bytes_before
    from (
        select workspace_id, room_id, published_seq from rooms
        where published_seq < last_seq and (workspace_id, room_id) > ($1, $2)
        order by workspace_id, room_id
        limit $3
    ) as room
    left join lateral (
        select
            e.stream_seq,
            e.event_id,
            case when octet_length(e.event_type) <= 128 then e.event_type else '' end as event_type,
            case when octet_length(e.traceparent) > 55 then '' else e.traceparent end as traceparent,
            case when octet_length(e.envelope) <= $5 then e.envelope end as envelope
        from (
            select *, row_number() over (order by stream_seq) as place
            from events
            where workspace_id = room.workspace_id and room_id = room.room_id and stream_seq > room.published_seq
            order by stream_seq
            limit $3
        ) as e
        where e.stream_seq = room.published_seq + e.place
    ) as event on true
    order by room.workspace_id, room.room_id, event.stream_seq
    limit $3
) as next
where bytes_before < $4
order by workspace_id, room_id, stream_seq
