-- From the event store: the events of the given rooms, each room's in order.
-- Envelopes of more bytes than that are left out.
-- A lateral subquery with an order of its own is gone through room by room, without a sort.
select x.workspace_id, x.room_id, e.stream_seq, e.envelope
from unnest($1::text[], $2::text[]) as x (workspace_id, room_id)
cross join lateral (
    select w.stream_seq, case when octet_length(w.envelope) <= $3 then w.envelope end as envelope from events as w
    where w.workspace_id = x.workspace_id and w.room_id = x.room_id
    order by w.stream_seq
) as e
