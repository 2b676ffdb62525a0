-- From the event store: the events of each room after one seq and up to another, in order.
-- $5 bounds the events of one room, $6 those of all rooms, $7 their bytes together (the first always comes).
select e.workspace_id, e.room_id, e.stream_seq, e.envelope
from (
    select
        f.workspace_id, f.room_id, f.stream_seq, f.envelope,
        sum(octet_length(f.envelope)) over (order by f.workspace_id, f.room_id, f.stream_seq)
        - octet_length(f.envelope) as bytes_before
    from (
        select h.workspace_id, h.room_id, v.stream_seq, v.envelope
        from unnest($1::text[], $2::text[], $3::bigint[], $4::bigint[])
            as h (workspace_id, room_id, applied_seq, last_seq)
        cross join lateral (
            select w.stream_seq, w.envelope
            from events as w
            where
                w.workspace_id = h.workspace_id and w.room_id = h.room_id
                and w.stream_seq > h.applied_seq and w.stream_seq <= h.last_seq
            order by w.stream_seq
            limit $5
        ) as v
        limit $6
    ) as f
) as e
where e.bytes_before < $7
order by e.workspace_id, e.room_id, e.stream_seq
