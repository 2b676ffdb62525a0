-- The history of all rooms after one key and up to another, in order.
-- Envelopes of more bytes than that are left out.
select
    workspace_id, room_id, stream_seq, case when octet_length(envelope) <= $5 then envelope end as envelope
from proj_room_events
where (workspace_id, room_id) > ($1, $2) and ($3::text is null or (workspace_id, room_id) <= ($3, $4::text))
order by workspace_id, room_id, stream_seq
