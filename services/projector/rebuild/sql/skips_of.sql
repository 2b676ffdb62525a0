-- What a version leaves out.
select workspace_id, room_id, stream_seq from projector_parked where projection = $1 and skipped_at is not null
