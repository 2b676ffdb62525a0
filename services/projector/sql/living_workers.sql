-- The workers that are alive, and what each runs.
select worker_id, projections from projector_workers where expires_at > now()
