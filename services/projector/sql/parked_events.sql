-- What is parked or was skipped: everything, of one projection, or of one room of it; open ones first. Times that somebody
-- wrote are those that a calendar has.
select
    k.projection, k.workspace_id, k.room_id, k.stream_seq, left(k.error, 500) as error, k.attempts, k.wanted,
    least(greatest(k.parked_at, '2000-01-01Z'), '3000-01-01Z') as parked_at,
    least(greatest(k.tried_at, '2000-01-01Z'), '3000-01-01Z') as tried_at,
    case when k.skipped_at is not null then least(greatest(k.skipped_at, '2000-01-01Z'), '3000-01-01Z') end as skipped_at, greatest(p.applied_seq, 0) as applied_seq
from projector_parked as k
left join proj_rooms as p
    on p.projection = k.projection and p.workspace_id = k.workspace_id and p.room_id = k.room_id
where
    ($1::text is null or k.projection = $1)
    and ($2::text is null or (k.workspace_id = $2 and k.room_id = $3))
order by k.skipped_at is not null, k.projection, k.workspace_id, k.room_id, k.stream_seq
