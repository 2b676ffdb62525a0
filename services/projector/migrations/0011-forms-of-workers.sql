-- How long values may be in the tables that projectors keep for themselves, for every row from now on
-- depends: 0010-forms-of-all
-- migrate: apply

-- A row of 200 MB here was memory of every projector that read it, several times over, and an answer of 200 MB to whoever asks
-- one whether it is ready. Partitions are those of shared/contracts/subjects.py: another number of them is a migration, too. New
-- versions have their tags' from schema/*.sql, and may have it already. Locks are asked for as in 0009-forms.
do $$
declare
    name text;
    form text;
begin
    perform set_config('lock_timeout', '500ms', true);
    for attempt in 1..100 loop
        begin
            for name, form in
                select t.tablename, f.form
                from pg_tables as t
                join (values
                    (
                        'projector_workers',
                        'octet_length(worker_id) <= 128
                        and cardinality(projections) <= 64
                        and coalesce(array_ndims(projections), 1) = 1
                        and array_position(projections, null) is null
                        and pg_column_size(projections) <= 8192'
                    ),
                    (
                        'projector_leases',
                        'octet_length(projection) <= 128
                        and partition between 0 and 31
                        and octet_length(owner) <= 256
                        and octet_length(stream_identity) <= 256'
                    ),
                    (
                        'projector_parked',
                        'octet_length(projection) <= 128
                        and octet_length(workspace_id) <= 128
                        and octet_length(room_id) <= 128
                        and stream_seq > 0
                        and partition between 0 and 31
                        and octet_length(error) <= 2000'
                    ),
                    (
                        'projector_versions',
                        'octet_length(projection) <= 128
                        and octet_length(name) <= 128
                        and octet_length(stream_identity) <= 256'
                    ),
                    (
                        'proj_rooms',
                        'octet_length(projection) <= 128
                        and octet_length(workspace_id) <= 128
                        and octet_length(room_id) <= 128'
                    ),
                    (
                        'proj_run_tags_v[0-9]+',
                        'octet_length(workspace_id) <= 128
                        and octet_length(tag) <= 1024
                        and created_at >= ''2000-01-01Z'' and created_at < ''3000-01-01Z''
                        and octet_length(run_id) <= 128
                        and octet_length(room_id) <= 128'
                    )
                ) as f (pattern, form) on t.tablename ~ ('^' || f.pattern || '$')
                where t.schemaname = 'public'
                    and not exists (select from pg_constraint where conname = t.tablename || '_forms')
                order by 1
            loop
                execute format('alter table %1$I add constraint %1$s_forms check (%2$s) not valid', name, form);
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
    for name in
        select conrelid::regclass from pg_constraint
        where connamespace = 'public'::regnamespace and conname ~ '^(projector_.*|proj_rooms|proj_run_tags_v[0-9]+)_forms$'
    loop
        execute format('alter table %1$I drop constraint %1$s_forms', name);
    end loop;
end
$$;
