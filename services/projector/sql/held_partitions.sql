-- Of each version that is read, how many partitions are held by a living worker that says it runs it.
select v.name, count(w.worker_id) as held
from projector_versions as v
left join projector_leases as l on v.name = l.projection
left join projector_workers as w on l.owner = w.worker_id and w.expires_at > now() and v.name = any (w.projections)
where v.state = 'active'
group by v.name
