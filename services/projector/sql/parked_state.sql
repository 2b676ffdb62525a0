-- What has become of parked events: no attempts when one is not parked any more, and how far its room has come. Each is looked
-- up as in parked_settled.
select
    x.workspace_id, x.room_id, x.stream_seq, k.error, k.attempts, k.is_skipped, greatest(p.applied_seq, 0) as applied_seq
from unnest($2::text[], $3::text[], $4::bigint[]) as x (workspace_id, room_id, stream_seq)
left join lateral (
    select left(error, 500) as error, attempts, skipped_at is not null as is_skipped
    from projector_parked
    where projection = $1 and workspace_id = x.workspace_id and room_id = x.room_id and stream_seq = x.stream_seq
    offset 0
) as k on true
left join lateral (
    select applied_seq
    from proj_rooms
    where projection = $1 and workspace_id = x.workspace_id and room_id = x.room_id
    offset 0
) as p on true
