-- From the event store: which of the given rooms do not have the given event, though they count it or have one behind it. As a
-- room's events are committed in order, it cannot be on its way.
select x.workspace_id, x.room_id
from unnest($1::text[], $2::text[], $3::bigint[]) as x (workspace_id, room_id, stream_seq)
where
    not exists (
        select from events as e
        where e.workspace_id = x.workspace_id and e.room_id = x.room_id and e.stream_seq = x.stream_seq
    )
    and (
        exists (
            select from rooms as r
            where r.workspace_id = x.workspace_id and r.room_id = x.room_id and r.last_seq >= x.stream_seq
        )
        or exists (
            select from events as e
            where e.workspace_id = x.workspace_id and e.room_id = x.room_id and e.stream_seq > x.stream_seq
        )
    )
