-- Makes rooms that nobody has written to, in one order for everybody. One that another writer is making is waited for
-- and left out of the answer: it has to be locked like any other.
-- $1 text[], $2 text[]: workspace and room ids, side by side
insert into rooms (workspace_id, room_id)
select workspace_id, room_id from unnest($1::text[], $2::text[]) as wanted (workspace_id, room_id)
order by workspace_id, room_id
on conflict (workspace_id, room_id) do nothing
returning workspace_id, room_id, last_seq
