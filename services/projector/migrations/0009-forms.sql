-- What times may be in the projections and how long values, for every row from now on
-- depends: 0008-bounded
-- migrate: apply

-- Times are those that a calendar has: one that readers cannot hold would be an error to whoever lists the workspace. Values
-- are no longer than what a command of 1 MiB can lead to, with room: text is no longer than it was in the body, JSON some four
-- times, tags are 100 of 256 characters. How large a value is that has yet to be stored is known without reading it. New
-- versions have the same from schema/*.sql, and may have it already. Reads wait behind this for half a second at the most, as
-- commands do behind the event store's.
do $$
declare
    name text;
begin
    perform set_config('lock_timeout', '500ms', true);
    for attempt in 1..100 loop
        begin
            for name in
                select tablename from pg_tables
                where schemaname = 'public' and tablename ~ '^proj_runs_v[0-9]+$'
                    and not exists (select from pg_constraint where conname = tablename || '_forms')
                order by 1
            loop
                execute format(
                    'alter table %1$I add constraint %1$s_forms check (
                        octet_length(run_id) <= 128
                        and octet_length(workspace_id) <= 128
                        and octet_length(room_id) <= 128
                        and octet_length(thread_id) <= 128
                        and octet_length(status) <= 128
                        and octet_length(correlation_id) <= 512
                        and octet_length(title) <= 2097152
                        and octet_length(goal) <= 2097152
                        and octet_length(summary) <= 2097152
                        and pg_column_size(input) <= 8388608
                        and pg_column_size(output) <= 8388608
                        and pg_column_size(error) <= 8388608
                        and pg_column_size(tags) <= 131072
                        and created_at >= ''2000-01-01Z'' and created_at < ''3000-01-01Z''
                        and started_at >= ''2000-01-01Z'' and started_at < ''3000-01-01Z''
                        and ended_at >= ''2000-01-01Z'' and ended_at < ''3000-01-01Z''
                        and updated_at >= ''2000-01-01Z'' and updated_at < ''3000-01-01Z''
                    ) not valid',
                    name
                );
            end loop;
            for name in
                select tablename from pg_tables
                where schemaname = 'public' and tablename ~ '^proj_steps_v[0-9]+$'
                    and not exists (select from pg_constraint where conname = tablename || '_forms')
                order by 1
            loop
                execute format(
                    'alter table %1$I add constraint %1$s_forms check (
                        octet_length(step_id) <= 128
                        and octet_length(run_id) <= 128
                        and octet_length(workspace_id) <= 128
                        and octet_length(room_id) <= 128
                        and octet_length(thread_id) <= 128
                        and octet_length(status) <= 128
                        and octet_length(kind) <= 2097152
                        and octet_length(title) <= 2097152
                        and pg_column_size(input) <= 8388608
                        and pg_column_size(output) <= 8388608
                        and pg_column_size(error) <= 8388608
                        and created_at >= ''2000-01-01Z'' and created_at < ''3000-01-01Z''
                        and updated_at >= ''2000-01-01Z'' and updated_at < ''3000-01-01Z''
                    ) not valid',
                    name
                );
            end loop;
            for name in
                select tablename from pg_tables
                where schemaname = 'public' and tablename ~ '^proj_room_events_v[0-9]+$'
                    and not exists (select from pg_constraint where conname = tablename || '_forms')
                order by 1
            loop
                execute format(
                    'alter table %1$I add constraint %1$s_forms check (
                        octet_length(envelope) between 1 and 16777216
                    ) not valid',
                    name
                );
            end loop;
            return;
        exception when lock_not_available or deadlock_detected then
            perform pg_sleep(1);
        end;
    end loop;
    raise lock_not_available using message = 'somebody is using the projections without a pause: end that, and migrate again';
end
$$;

-- migrate: rollback

do $$
declare
    name text;
begin
    for name in select tablename from pg_tables where schemaname = 'public' and tablename ~ '^proj_(runs|steps|room_events)_v[0-9]+$'
    loop
        execute format('alter table %1$I drop constraint %1$s_forms', name);
    end loop;
end
$$;
