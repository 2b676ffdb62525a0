-- Says how far the rooms have come that were filled; not of those that somebody else has brought on. They leave nothing out.
with filled as (
    update proj_rooms as p set applied_seq = x.applied_seq, updated_at = now()
    from unnest($2::text[], $3::text[], $4::bigint[]) as x (workspace_id, room_id, applied_seq)
    where p.projection = $1 and p.workspace_id = x.workspace_id and p.room_id = x.room_id and p.applied_seq = 0
    returning p.workspace_id, p.room_id, p.applied_seq
)

delete from projector_parked as k
using filled as f
where
    k.projection = $1 and k.workspace_id = f.workspace_id and k.room_id = f.room_id and k.stream_seq <= f.applied_seq
