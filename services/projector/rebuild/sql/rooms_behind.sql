-- The rooms a version has brought less far than another, and how far that says it has.
select old.workspace_id, old.room_id, old.applied_seq from proj_rooms as old
left join proj_rooms as new
    on new.projection = $2 and new.workspace_id = old.workspace_id and new.room_id = old.room_id
where old.projection = $1 and coalesce(new.applied_seq, 0) < old.applied_seq
