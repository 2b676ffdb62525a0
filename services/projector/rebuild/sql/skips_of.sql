-- What a version leaves out of a partition.
select workspace_id, room_id, stream_seq from projector_parked
where projection = $1 and partition = $2 and skipped_at is not null
