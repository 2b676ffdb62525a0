-- Asks the partition's owner to do something about parked events. Their attempts are left with one to count.
update projector_parked set
    wanted = $4,
    error = left(error, 500),
    attempts = least(greatest(attempts, 0), 999999)
where
    projection = $1 and ($2::text is null or (workspace_id = $2 and room_id = $3::text)) and skipped_at is null
returning workspace_id, room_id, stream_seq, attempts
