-- The same of every row there is, where it holds or can be made to
-- depends: 0017-applied-from-none
-- migrate: apply

-- Nothing of such a room was applied. A row that is of another form besides keeps what it has, as in 0012-forms-of-all-workers.
do $$
begin
    update proj_rooms set applied_seq = 0
    where
        applied_seq < 0
        and octet_length(projection) <= 128
        and octet_length(workspace_id) <= 128
        and octet_length(room_id) <= 128;
    begin
        alter table proj_rooms validate constraint proj_rooms_applied_forms;
    exception when check_violation then
        raise warning 'proj_rooms has rows that no projector wrote';
    end;
end
$$;

-- migrate: rollback

select 1;
