-- Gives everything back and leaves, whatever else is in the tables: leases are looked up as in leases_of.sql. One that
-- changes meanwhile keeps its owner, who is not alive then.
with given_back as (
    update projector_leases set owner = null
    where
        ctid = any (
            array(
                select l.ctid
                from projector_versions as v
                cross join generate_series(0, $2 - 1) as p
                cross join lateral (
                    select ctid, owner from projector_leases where projection = v.name and partition = p offset 0
                ) as l
                where l.owner = $1
            )
        )
        and owner = $1
)

delete from projector_workers where worker_id = $1
