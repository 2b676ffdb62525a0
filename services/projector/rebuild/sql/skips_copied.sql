-- What one version leaves out, another is to leave out where it cannot be applied: what it has not come to yet, of rooms that the
-- first has brought as far. What it has parked itself is to be skipped by its workers.
-- $3-$5 rooms of the event store, and how many events each has
insert into projector_parked as k
(projection, workspace_id, room_id, stream_seq, partition, error, attempts, parked_at, tried_at, skipped_at)
select
    $2, o.workspace_id, o.room_id, o.stream_seq, p.partition, left(o.error, 500), 1,
    least(greatest(o.parked_at, '2000-01-01Z'), '2999-12-31Z'),
    least(greatest(o.tried_at, '2000-01-01Z'), '2999-12-31Z'),
    least(greatest(o.skipped_at, '2000-01-01Z'), '2999-12-31Z')
from projector_parked as o
join proj_rooms as p
    on p.projection = $1 and p.workspace_id = o.workspace_id and p.room_id = o.room_id and p.applied_seq >= o.stream_seq
join unnest($3::text[], $4::text[], $5::bigint[]) as r (workspace_id, room_id, last_seq)
    on r.workspace_id = o.workspace_id and r.room_id = o.room_id and r.last_seq >= o.stream_seq
where
    o.projection = $1 and o.skipped_at is not null and o.stream_seq > 0
    and not exists (
        select from proj_rooms as n
        where
            n.projection = $2 and n.workspace_id = o.workspace_id and n.room_id = o.room_id
            and n.applied_seq >= o.stream_seq
    )
on conflict (projection, workspace_id, room_id, stream_seq) do update set wanted = 'skip' where k.skipped_at is null
