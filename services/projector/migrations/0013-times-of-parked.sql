-- What times parked events may have, for every row from now on
-- depends: 0012-forms-of-all-workers
-- migrate: apply

-- As those of 0009-forms: a time that a reader cannot hold was an error to whoever listed what is parked. Projectors write now().
-- Locks are asked for as there.
do $$
begin
    perform set_config('lock_timeout', '500ms', true);
    for attempt in 1..100 loop
        begin
            alter table projector_parked add constraint projector_parked_times_forms check (
                parked_at >= '2000-01-01Z' and parked_at < '3000-01-01Z'
                and tried_at >= '2000-01-01Z' and tried_at < '3000-01-01Z'
                and skipped_at >= '2000-01-01Z' and skipped_at < '3000-01-01Z'
            ) not valid;
            return;
        exception when lock_not_available or deadlock_detected then
            perform pg_sleep(1);
        end;
    end loop;
    raise lock_not_available using message = 'somebody is using the projections without a pause: end that, and migrate again';
end
$$;

-- migrate: rollback

alter table projector_parked drop constraint projector_parked_times_forms;
