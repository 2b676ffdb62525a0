-- An envelope is one line, for every row from now on
-- depends: 0003-forms-of-all
-- migrate: apply

-- A room's stream hands envelopes on as lines: what comes after a line break would be a frame of its own to every viewer. No
-- service writes one, as JSON needs none. Commands wait as in 0002.
do $$
begin
    perform set_config('lock_timeout', '500ms', true);
    for attempt in 1..100 loop
        begin
            alter table events add constraint events_lines_forms check (
                position('\x0a'::bytea in envelope) = 0 and position('\x0d'::bytea in envelope) = 0
            ) not valid;
            return;
        exception when lock_not_available or deadlock_detected then
            perform pg_sleep(1);
        end;
    end loop;
    raise lock_not_available using message = 'somebody is using the event store without a pause: end that, and migrate again';
end
$$;

-- migrate: rollback

alter table events drop constraint events_lines_forms;
