-- What a version leaves out of the rooms after one key and up to another.
select workspace_id, room_id, stream_seq from projector_parked
where
    projection = $5 and skipped_at is not null and (workspace_id, room_id) > ($1, $2)
    and ($3::text is null or (workspace_id, room_id) <= ($3, $4::text))
