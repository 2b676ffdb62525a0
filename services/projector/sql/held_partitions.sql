-- Of each version that is read, how many partitions are held by a living worker that says it runs it. Who is alive is
-- the same as in claim.sql and living_workers.sql.
select v.name, count(w.worker_id) as held
from projector_versions as v
left join projector_leases as l on v.name = l.projection
left join projector_workers as w
    on l.owner = w.worker_id
    and w.expires_at > now()
    and w.expires_at < now() + interval '2 minutes'
    and v.name = any (w.projections)
where v.state = 'active'
group by v.name
