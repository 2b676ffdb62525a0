-- What is parked in the given partitions, and what is wanted of it; first what somebody waits for.
select workspace_id, room_id, stream_seq, partition, error, attempts, wanted
from projector_parked
where projection = $1 and partition = any ($2::smallint[]) and skipped_at is null
order by wanted is null, parked_at
limit $3
