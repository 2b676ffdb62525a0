-- What times of runs and steps may be, for every row from now on
-- depends: 0007-page-bytes
-- migrate: apply

-- Times are those that a calendar has: one that readers cannot hold would be an error to whoever lists the workspace. New
-- versions have the same from schema/*.sql. Reads wait behind this for half a second at the most, as commands do behind the
-- event store's.
do $$
declare
    name text;
begin
    perform set_config('lock_timeout', '500ms', true);
    for attempt in 1..100 loop
        begin
            for name in
                select tablename from pg_tables where schemaname = 'public' and tablename ~ '^proj_runs_v[0-9]+$' order by 1
            loop
                execute format(
                    'alter table %1$I add constraint %1$s_forms check (
                        created_at >= ''2000-01-01Z'' and created_at < ''3000-01-01Z''
                        and started_at >= ''2000-01-01Z'' and started_at < ''3000-01-01Z''
                        and ended_at >= ''2000-01-01Z'' and ended_at < ''3000-01-01Z''
                        and updated_at >= ''2000-01-01Z'' and updated_at < ''3000-01-01Z''
                    ) not valid',
                    name
                );
            end loop;
            for name in
                select tablename from pg_tables where schemaname = 'public' and tablename ~ '^proj_steps_v[0-9]+$' order by 1
            loop
                execute format(
                    'alter table %1$I add constraint %1$s_forms check (
                        created_at >= ''2000-01-01Z'' and created_at < ''3000-01-01Z''
                        and updated_at >= ''2000-01-01Z'' and updated_at < ''3000-01-01Z''
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
    for name in select tablename from pg_tables where schemaname = 'public' and tablename ~ '^proj_(runs|steps)_v[0-9]+$'
    loop
        execute format('alter table %1$I drop constraint %1$s_forms', name);
    end loop;
end
$$;
