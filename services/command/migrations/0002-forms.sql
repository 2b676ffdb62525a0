-- What ids, types and numbers may be, for every row from now on
-- depends: 0001-event-store
-- migrate: apply

-- Ids become tokens of a subject and types header values. Services check them where they come in; here, nobody who has got
-- hold of a password writes a row that cannot be published and that nobody may remove. The lengths come first, and no
-- pattern says how often: that makes 1.5 µs an event of what would be 25. Numbers are those that JSON has in common.
--
-- Commands wait behind this for a second or two at the most: where somebody reads for long, it steps aside and tries again.
do $$
begin
    perform set_config('lock_timeout', '500ms', true);
    for attempt in 1..100 loop
        begin
            lock table rooms, events, runs, commands in access exclusive mode;
            alter table rooms add constraint rooms_forms check (
                octet_length(workspace_id) <= 128 and workspace_id ~ '^[A-Za-z0-9_-]+$'
                and octet_length(room_id) <= 128 and room_id ~ '^[A-Za-z0-9_-]+$'
                and last_seq < 9007199254740992
            ) not valid;
            alter table events add constraint events_forms check (
                octet_length(workspace_id) <= 128 and workspace_id ~ '^[A-Za-z0-9_-]+$'
                and octet_length(room_id) <= 128 and room_id ~ '^[A-Za-z0-9_-]+$'
                and stream_seq < 9007199254740992
                and octet_length(run_id) <= 128 and run_id ~ '^[A-Za-z0-9_-]+$'
                and octet_length(event_type) <= 128 and event_type ~ '^[a-z][a-z0-9._-]*$'
                and event_version > 0
                and recorded_at >= '2000-01-01Z' and recorded_at < '3000-01-01Z'
                and (traceparent is null or octet_length(traceparent) = 55 and traceparent ~ '^[0-9a-f-]+$')
                and octet_length(envelope) between 1 and 16777216
            ) not valid;
            alter table runs add constraint runs_forms check (
                version > 0
                and (thread_id is null or octet_length(thread_id) <= 128 and thread_id ~ '^[A-Za-z0-9_-]+$')
                and length(correlation_id) between 1 and 128 and correlation_id ~ '^[^[:cntrl:] ]+$' collate "C"
            ) not valid;
            alter table commands add constraint commands_forms check (
                octet_length(idempotency_key) between 1 and 255
                and octet_length(fingerprint) <= 64
                and status in (200, 201)
                and octet_length(response) <= 8192
                and expires_at >= '2000-01-01Z' and expires_at < '3000-01-01Z'
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

alter table commands drop constraint commands_forms;
alter table runs drop constraint runs_forms;
alter table events drop constraint events_forms;
alter table rooms drop constraint rooms_forms;
