-- The next events to publish of the given rooms, in key order; everything else is as in relay_read_unpublished.sql. Each room
-- is looked up by its key, however many others have something to publish.
-- $1 text[], $2 text[]: workspace and room; $3 integer: most rows; $4 bigint: most bytes, but the first always comes; $5
-- bigint: bytes of the largest envelope to give
select workspace_id, room_id, stream_seq, event_id, event_type, traceparent, envelope
from (
    select
        room.workspace_id,
        room.room_id,
        event.*,
        sum(coalesce(octet_length(event.envelope), 0)) over (order by room.workspace_id, room.room_id, event.stream_seq)
        - coalesce(octet_length(event.envelope), 0) as bytes_before
    from (
        select r.workspace_id, r.room_id, r.published_seq
        from unnest($1::text[], $2::text[]) as asked (workspace_id, room_id)
        cross join lateral (
            select * from rooms where workspace_id = asked.workspace_id and room_id = asked.room_id offset 0
        ) as r
        where r.published_seq < r.last_seq
        order by r.workspace_id, r.room_id
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
