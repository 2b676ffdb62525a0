-- What is parked or was skipped, a portion in the order of keys: from behind one key on, up to a projection or a room of it, or to
-- the end. Each portion is read by its bounds alone, so that it takes as long as any other, however many rows there are.
-- Times that somebody wrote are those that a calendar has.
select
    projection, workspace_id, room_id, stream_seq, left(error, 500) as error, attempts, wanted,
    least(greatest(parked_at, '2000-01-01Z'), '3000-01-01Z') as parked_at,
    least(greatest(tried_at, '2000-01-01Z'), '3000-01-01Z') as tried_at,
    case when skipped_at is not null then least(greatest(skipped_at, '2000-01-01Z'), '3000-01-01Z') end as skipped_at
from projector_parked
where
    (projection, workspace_id, room_id, stream_seq) > ($1::text, $2::text, $3::text, $4::bigint)
    and ($5::text is null or projection <= $5)
    and ($6::text is null or (projection, workspace_id, room_id) <= ($5, $6, $7::text))
order by projection, workspace_id, room_id, stream_seq
limit $8
