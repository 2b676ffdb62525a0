-- What has become of one parked event: no attempts when it is not parked any more, and how far its room has come.
select
    left(k.error, 500) as error, k.attempts, k.wanted, k.skipped_at is not null as skipped,
    greatest(p.applied_seq, 0) as applied_seq
from (values ($1::text, $2::text, $3::text, $4::bigint)) as x (projection, workspace_id, room_id, stream_seq)
left join projector_parked as k
    on k.projection = x.projection and k.workspace_id = x.workspace_id and k.room_id = x.room_id
    and k.stream_seq = x.stream_seq
left join proj_rooms as p
    on p.projection = x.projection and p.workspace_id = x.workspace_id and p.room_id = x.room_id
