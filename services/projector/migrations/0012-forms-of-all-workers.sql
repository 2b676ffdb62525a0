-- The same of every row there is, where it holds
-- depends: 0011-forms-of-workers
-- migrate: apply

-- Reads the tables once while everybody works. A table that has a row of another form keeps it, and a constraint that is
-- not valid: docs/operations.md, "What a thief may have left", says how such rows go.
do $$
declare
    name text;
begin
    for name in
        select conrelid::regclass from pg_constraint
        where connamespace = 'public'::regnamespace
            and conname ~ '^(projector_.*|proj_rooms|proj_run_tags_v[0-9]+)_forms$' and not convalidated
        order by 1
    loop
        begin
            execute format('alter table %1$I validate constraint %1$s_forms', name);
        exception when check_violation then
            raise warning '% has rows that no projector wrote', name;
        end;
    end loop;
end
$$;

-- migrate: rollback

select 1;
