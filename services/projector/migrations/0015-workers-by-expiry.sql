-- Who is alive, and who is no worker, without reading all that is in the table
-- depends: 0014-times-of-all-parked
-- migrate: apply

-- Whoever has a projector's password may have made millions of rows that are no workers. The index makes each heartbeat
-- an update of two indexes: microseconds, a few times a second. Locks are asked for as in 0009-forms.
do $$
begin
    perform set_config('lock_timeout', '500ms', true);
    for attempt in 1..100 loop
        begin
            create index projector_workers_expiry on projector_workers (expires_at);
            return;
        exception when lock_not_available or deadlock_detected then
            perform pg_sleep(1);
        end;
    end loop;
    raise lock_not_available using message = 'somebody is using the projections without a pause: end that, and migrate again';
end
$$;

-- migrate: rollback

drop index projector_workers_expiry;
