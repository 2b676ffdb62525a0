-- What the projection holds of a room's history: the first position still there (null: none) and the last applied.
-- $1 workspace_id, $2 room_id
select
    (select min(stream_seq) from proj_room_events where workspace_id = $1 and room_id = $2) as first_seq,
    greatest(
        (select max(stream_seq) from proj_room_events where workspace_id = $1 and room_id = $2),
        (
            select applied_seq from proj_rooms
            where projection = 'room_feed' and workspace_id = $1 and room_id = $2
        ),
        0
    ) as head_seq
