-- How many rooms a version has brought less far than another, which counts as no further than the event store was.
select count(*) from proj_rooms as old
left join proj_rooms as new
    on new.projection = $2 and new.workspace_id = old.workspace_id and new.room_id = old.room_id
left join rooms_ahead as ahead on
    ahead.workspace_id = old.workspace_id and ahead.room_id = old.room_id and ahead.applied_seq = old.applied_seq
where old.projection = $1 and coalesce(new.applied_seq, 0) < least(old.applied_seq, ahead.last_seq)
