-- Hands a filled version to the workers: every partition from the position the fill started from. Epochs begin with the
-- time, as in lease_rows.sql. A lease that is there already is nobody's: no worker claims any of a version that is not ready.
with ready as (
    update projector_versions set state = 'ready' where name = $1
    returning name, stream_identity, stream_position
)

insert into projector_leases (projection, partition, epoch, stream_identity, stream_position)
select r.name, p, (extract(epoch from clock_timestamp()) * 1000)::bigint, r.stream_identity, r.stream_position
from ready as r, generate_series(0, $2 - 1) as p
on conflict (projection, partition) do update set
    owner = null,
    epoch = excluded.epoch,
    stream_identity = excluded.stream_identity,
    stream_position = excluded.stream_position
