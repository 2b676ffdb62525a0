-- What has become of one parked event; no row when it has been applied.
select left(error, 500) as error, attempts, wanted, skipped_at is not null as skipped from projector_parked
where projection = $1 and workspace_id = $2 and room_id = $3 and stream_seq = $4
