-- Hands a filled version to the workers: every partition from the position the fill started from.
with ready as (
    update projector_versions set state = 'ready' where name = $1
    returning name, stream_identity, stream_position
)

insert into projector_leases (projection, partition, stream_identity, stream_position)
select r.name, p, r.stream_identity, r.stream_position from ready as r, generate_series(0, $2 - 1) as p
