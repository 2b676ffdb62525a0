-- Locks those of the rooms that are still to be filled, whoever else is filling. In key order, so that nobody waits in a
-- circle.
select p.workspace_id, p.room_id from proj_rooms as p
where
    p.projection = $1 and p.applied_seq = 0
    and (p.workspace_id, p.room_id) in (select x.w, x.r from unnest($2::text[], $3::text[]) as x (w, r))
order by p.workspace_id, p.room_id
for no key update
