-- What the relay's row may hold
-- depends: 0007-versions-of-all
-- migrate: apply

-- The relay goes by this row whenever it begins to lead: an epoch that the stream's marks do not hold stopped it for good, and
-- a name of a gigabyte, which is small in the table, took the memory of each command service that read it. What no relay
-- has written is put right here, as a relay's that has seen no stream: it looks at the one there is. The relay waits as in 0002.
do $$
begin
    perform set_config('lock_timeout', '500ms', true);
    for attempt in 1..100 loop
        begin
            lock table relay in access exclusive mode;
            update relay set stream_created = '', stream_epoch = 0, stream_position = 0
            where
                not (
                    octet_length(stream_created) <= 64
                    and stream_epoch between 0 and 9007199254740991
                    and stream_position >= 0
                );
            alter table relay add constraint relay_forms check (
                octet_length(stream_created) <= 64
                and stream_epoch between 0 and 9007199254740991
                and stream_position >= 0
            );
            return;
        exception when lock_not_available or deadlock_detected then
            perform pg_sleep(1);
        end;
    end loop;
    raise lock_not_available using message = 'somebody is using the event store without a pause: end that, and migrate again';
end
$$;

-- migrate: rollback

alter table relay drop constraint relay_forms;
