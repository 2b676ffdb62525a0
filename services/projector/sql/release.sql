-- Gives leases back. One that somebody has locked is left for the next time: it is not to keep all the others waiting.
with given as (
    select projection, partition
    from projector_leases
    where projection = $1 and partition = any ($2::smallint[]) and owner = $3
    order by partition
    for update skip locked
)

update projector_leases as l set owner = null
from given as g
where l.projection = g.projection and l.partition = g.partition
