-- How far a room may be said to be applied, for every row from now on
-- depends: 0016-parked-in-turn
-- migrate: apply

-- Below 0 there is no event to follow on: the room stood still for good. Locks are asked for as in 0009-forms.
do $$
begin
    perform set_config('lock_timeout', '500ms', true);
    for attempt in 1..100 loop
        begin
            alter table proj_rooms add constraint proj_rooms_applied_forms check (applied_seq >= 0) not valid;
            return;
        exception when lock_not_available or deadlock_detected then
            perform pg_sleep(1);
        end;
    end loop;
    raise lock_not_available using message = 'somebody is using the projections without a pause: end that, and migrate again';
end
$$;

-- migrate: rollback

alter table proj_rooms drop constraint proj_rooms_applied_forms;
