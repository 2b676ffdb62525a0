-- What is parked in a partition, in the order it is looked at
-- depends: 0015-workers-by-expiry
-- migrate: apply

-- Each look takes the first thousand, and read all that is parked for that. The index takes the place of the one that had them
-- by partition alone. Locks are asked for as in 0009-forms.
do $$
begin
    perform set_config('lock_timeout', '500ms', true);
    for attempt in 1..100 loop
        begin
            create index projector_parked_in_turn on projector_parked (projection, partition, (wanted is null), parked_at)
            where skipped_at is null;
            drop index projector_parked_open;
            return;
        exception when lock_not_available or deadlock_detected then
            perform pg_sleep(1);
        end;
    end loop;
    raise lock_not_available using message = 'somebody is using the projections without a pause: end that, and migrate again';
end
$$;

-- migrate: rollback

create index projector_parked_open on projector_parked (projection, partition) where skipped_at is null;
drop index projector_parked_in_turn;
