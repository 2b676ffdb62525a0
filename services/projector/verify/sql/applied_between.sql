-- How far the rooms after one key and up to another have come, per projection.
select projection, workspace_id, room_id, applied_seq from proj_rooms
where
    projection = any ($5::text[])
    and (workspace_id, room_id) > ($1, $2) and ($3::text is null or (workspace_id, room_id) <= ($3, $4::text))
