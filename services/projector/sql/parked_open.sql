-- What is parked in the given partitions, and what is wanted of it; first what somebody waits for. Of each partition no more
-- is read than may be looked at, however much there is. Here and elsewhere an error is no longer than a projector makes it: a
-- row of before the table's constraint may have another.
select workspace_id, room_id, stream_seq, partition, left(error, 500) as error, attempts, wanted
from unnest($2::smallint[]) as held (number)
cross join lateral (
    select *
    from projector_parked
    where projection = $1 and partition = held.number and skipped_at is null
    order by wanted is null, parked_at
    limit $3
) as k
order by wanted is null, parked_at
limit $3
