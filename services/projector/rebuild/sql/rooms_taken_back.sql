-- Makes rooms of a version, which no worker has yet, as if they had not been filled. No index there is by room: each table is
-- gone through once, whatever the session has PostgreSQL do about joins.
with rooms as (
    update proj_rooms as p set applied_seq = 0
    from unnest($2::text[], $3::text[]) as x (workspace_id, room_id)
    where p.projection = $1 and p.workspace_id = x.workspace_id and p.room_id = x.room_id
),

steps as (
    delete from proj_steps_v1
    where ((workspace_id, room_id) in (select x.w, x.r from unnest($2::text[], $3::text[]) as x (w, r))) is true
)

delete from proj_runs_v1
where ((workspace_id, room_id) in (select x.w, x.r from unnest($2::text[], $3::text[]) as x (w, r))) is true
