-- The rooms of which a version leaves something out.
select distinct workspace_id, room_id from projector_parked where projection = $1 and skipped_at is not null
