-- What is parked in the given partitions, and what is wanted of it; first what somebody waits for. Here and elsewhere an
-- error is no longer than a projector makes it: a row of before the table's constraint may have another.
select workspace_id, room_id, stream_seq, partition, left(error, 500) as error, attempts, wanted
from projector_parked
where projection = $1 and partition = any ($2::smallint[]) and skipped_at is null
order by wanted is null, parked_at
limit $3
