-- The workers that are alive, and what each runs: the asking one, $1, and others. No lease is as long as two minutes: a worker
-- that would be alive for longer is none, and has no share. No worker runs as many as 16 versions: a row of before the
-- constraint may say so. Nor are there as many as 1000 workers; those that somebody else has made are not to fill our memory,
-- nor to take the asking worker's place among them.
select worker_id, projections[1:16] as projections from projector_workers where worker_id = $1
union all
(
    select worker_id, projections[1:16] as projections from projector_workers
    where expires_at > now() and expires_at < now() + interval '2 minutes' and worker_id <> $1
    order by expires_at
    limit 1000
)
