-- A room's events after a position, oldest first, and without its envelope the event at that position, whose place in
-- the stream tells where to go on there. Bounded in rows and bytes, but at least one event if there is one.
-- $1 workspace_id, $2 room_id, $3 stream_seq to start after, $4 rows, $5 bytes
select stream_seq, stream_position, case when stream_seq > $3 then envelope end as envelope
from (
    select
        *,
        coalesce(
            sum(octet_length(envelope)) filter (where stream_seq > $3)
            over (order by stream_seq rows between unbounded preceding and 1 preceding),
            0
        ) as bytes_before
    from (
        select stream_seq, stream_position, envelope
        from proj_room_events
        where workspace_id = $1 and room_id = $2 and stream_seq >= $3
        order by stream_seq
        limit $4
    ) page
) sized
where bytes_before < $5
order by stream_seq
