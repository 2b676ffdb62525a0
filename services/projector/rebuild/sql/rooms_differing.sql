-- Of the rooms that two versions have brought equally far, those with other rows. What stands in braces are queries for
-- the rows and the checksum of each room. Rooms may be given, or null for all.
with same as (
    select old.workspace_id, old.room_id from proj_rooms as old
    join proj_rooms as new
        on new.projection = $2 and new.workspace_id = old.workspace_id and new.room_id = old.room_id
    where
        old.projection = $1 and old.applied_seq = new.applied_seq
        and (
            $3::text[] is null
            or (old.workspace_id, old.room_id) in (select x.w, x.r from unnest($3::text[], $4::text[]) as x (w, r))
        )
),

before as ({before}),

after as ({after})

select same.workspace_id, same.room_id, coalesce(before.rows, 0) as rows_before, coalesce(after.rows, 0) as rows_after
from same
left join before on before.workspace_id = same.workspace_id and before.room_id = same.room_id
left join after on after.workspace_id = same.workspace_id and after.room_id = same.room_id
where (before.rows, before.sum) is distinct from (after.rows, after.sum)
limit $5
