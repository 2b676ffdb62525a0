-- The next events to publish: of rooms in key order from a room on, each room's in stream_seq order, as far as the
-- number and the bytes go. The first always comes, however large.
-- $1 text, $2 text: workspace and room to go on after; $3 integer: most events; $4 bigint: most bytes
select workspace_id, room_id, stream_seq, event_id, event_type, traceparent, envelope
from (
    select
        event.*,
        sum(octet_length(event.envelope)) over (order by event.workspace_id, event.room_id, event.stream_seq)
        - octet_length(event.envelope) as bytes_before
    from (
        select workspace_id, room_id, published_seq from rooms
        where published_seq < last_seq and (workspace_id, room_id) > ($1, $2)
        order by workspace_id, room_id
        limit $3
    ) as room
    cross join lateral (
        select e.workspace_id, e.room_id, e.stream_seq, e.event_id, e.event_type, e.traceparent, e.envelope
        from events as e
        where e.workspace_id = room.workspace_id and e.room_id = room.room_id and e.stream_seq > room.published_seq
        order by e.stream_seq
        limit $3
    ) as event
    order by event.workspace_id, event.room_id, event.stream_seq
    limit $3
) as next
where bytes_before < $4
order by workspace_id, room_id, stream_seq
