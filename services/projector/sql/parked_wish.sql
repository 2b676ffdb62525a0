-- Asks the partition's owner to do something about the parked events from one key to another. Their attempts are left with one
-- to count. What is open is asked in a way that no index knows of: there is one of that, and by it everything that is parked
-- would be read for each portion.
update projector_parked set
    wanted = $2,
    error = left(error, 500),
    attempts = least(greatest(attempts, 0), 999999)
where
    projection = $1
    and (workspace_id, room_id, stream_seq) >= ($3::text, $4::text, $5::bigint)
    and (workspace_id, room_id, stream_seq) <= ($6::text, $7::text, $8::bigint)
    and (skipped_at is null)::integer = 1
returning workspace_id, room_id, stream_seq, attempts
