-- The same of every row there is, where it holds
-- depends: 0009-forms
-- migrate: apply

-- Reads the tables once while everybody works on. A table that has a row of another form keeps it, and a constraint that is
-- not valid: what is in there can be made again from the event store, without those rows, by a rebuild
-- (docs/operations.md, "When a credential is stolen").
do $$
declare
    name text;
begin
    for name in
        select conrelid::regclass from pg_constraint
        where connamespace = 'public'::regnamespace and conname ~ '^proj_.*_forms$' and not convalidated
        order by 1
    loop
        begin
            execute format('alter table %1$I validate constraint %1$s_forms', name);
        exception when check_violation then
            raise warning '% has rows that no projector wrote: rebuild it', name;
        end;
    end loop;
end
$$;

-- migrate: rollback

select 1;
