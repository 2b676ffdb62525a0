-- A run's version is one that can be counted on from, for every row from now on
-- depends: 0005-lines-of-all
-- migrate: apply

-- A batch adds to it before the store looks at it: near the end of its type that was no version at all, and the store's word
-- against whoever had sent the command. Half of what there is no run comes to. Commands wait as in 0002.
do $$
begin
    perform set_config('lock_timeout', '500ms', true);
    for attempt in 1..100 loop
        begin
            alter table runs add constraint runs_versions_forms check (version < 1073741824) not valid;
            return;
        exception when lock_not_available or deadlock_detected then
            perform pg_sleep(1);
        end;
    end loop;
    raise lock_not_available using message = 'somebody is using the event store without a pause: end that, and migrate again';
end
$$;

-- migrate: rollback

alter table runs drop constraint runs_versions_forms;
