-- Statistics of rare tags, so that lists of them are read by the index on tags
-- depends: 0004-work-lists
-- migrate: apply

do $$
declare
    name text;
begin
    for name in select tablename from pg_tables where schemaname = 'public' and tablename ~ '^proj_runs_v[0-9]+$' loop
        execute format('alter table %I alter column tags set statistics 1000', name);
    end loop;
end
$$;

-- migrate: rollback

alter table if exists proj_runs_v1 alter column tags set statistics -1;
