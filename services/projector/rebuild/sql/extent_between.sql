-- How many rooms of a version there are after one key and up to another, how many events they hold, and whether all of
-- them have been filled and none leaves an event out. Sums are bounded: workers' rows may say anything.
select
    count(*) as rooms,
    least(greatest(coalesce(sum(p.applied_seq), 0), 0), 9223372036854775807)::bigint as events,
    coalesce(bool_and(p.applied_seq > 0), true) and not exists (
        select from projector_parked as k
        where
            k.projection = $5 and (k.workspace_id, k.room_id) > ($1, $2)
            and ($3::text is null or (k.workspace_id, k.room_id) <= ($3, $4::text))
    ) as whole
from proj_rooms as p
where
    p.projection = $5 and (p.workspace_id, p.room_id) > ($1, $2)
    and ($3::text is null or (p.workspace_id, p.room_id) <= ($3, $4::text))
