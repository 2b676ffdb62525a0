-- What the projection holds of the history of some rooms: the first position still there (null: none), the last applied.
-- $1 workspace_ids, $2 room_ids, of the same length
select
    wanted.workspace_id,
    wanted.room_id,
    (
        select e.stream_seq from proj_room_events e
        where e.workspace_id = wanted.workspace_id and e.room_id = wanted.room_id
        order by e.stream_seq
        limit 1
    ) as first_seq,
    greatest(
        (
            select e.stream_seq from proj_room_events e
            where e.workspace_id = wanted.workspace_id and e.room_id = wanted.room_id
            order by e.stream_seq desc
            limit 1
        ),
        (
            select p.applied_seq from proj_applied p
            where p.projection = 'room_feed' and p.workspace_id = wanted.workspace_id and p.room_id = wanted.room_id
        ),
        0
    ) as head_seq
from unnest($1::text[], $2::text[]) as wanted (workspace_id, room_id)
