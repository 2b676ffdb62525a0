-- The rooms of a version that another has not brought equally far. Rooms may be given, or null for all.
select old.workspace_id, old.room_id from proj_rooms as old
left join proj_rooms as new
    on new.projection = $2 and new.workspace_id = old.workspace_id and new.room_id = old.room_id
where
    old.projection = $1 and new.applied_seq is distinct from old.applied_seq
    and (
        $3::text[] is null
        or (old.workspace_id, old.room_id) in (select x.w, x.r from unnest($3::text[], $4::text[]) as x (w, r))
    )
