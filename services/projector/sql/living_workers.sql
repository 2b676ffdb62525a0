-- The workers that are alive, and what each runs. No lease is as long as two minutes: a worker that would be alive for
-- longer is none, and has no share.
select worker_id, projections from projector_workers
where expires_at > now() and expires_at < now() + interval '2 minutes'
