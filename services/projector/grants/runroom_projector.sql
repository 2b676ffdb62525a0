-- Projectors in their database: what workers, `verify` and `parked` do. Tables are made and dropped by their owner.
grant usage on schema public to runroom_projector;

grant select, insert, update (projections, expires_at), delete on projector_workers to runroom_projector;
grant select, insert, update (owner, epoch, stream_identity, stream_position) on projector_leases to runroom_projector;
grant select, insert, update (applied_seq, updated_at) on proj_rooms to runroom_projector;
grant select, insert, update (error, attempts, tried_at, wanted, skipped_at), delete
on projector_parked to runroom_projector;
grant select on projector_versions to runroom_projector;

-- What is read, for `verify`.
grant select on proj_runs, proj_steps, proj_run_tags, proj_room_events, proj_applied to runroom_projector;

-- The tables of every version there is. A rebuild applies this again when it has made another.
do $$
declare
    name text;
    moving text;
begin
    -- What a run is and where it is stays; and who may update a whole table may lock it against everybody who reads. The
    -- other columns are not named: another release's version may have others.
    for name, moving in
        select c.relname, string_agg(quote_ident(a.attname), ', ')
        from pg_class c join pg_attribute a on a.attrelid = c.oid
        where
            c.relnamespace = 'public'::regnamespace and c.relkind = 'r' and c.relname ~ '^proj_runs_v[0-9]+$'
            and a.attnum > 0 and not a.attisdropped
            and a.attname <> all (
                '{run_id, workspace_id, room_id, thread_id, title, goal, input, tags, created_at, correlation_id}'
            )
        group by c.relname
    loop
        execute format('grant select, insert, update (%s) on %I to runroom_projector', moving, name);
    end loop;
    for name in
        select tablename from pg_tables
        where schemaname = 'public' and tablename ~ '^proj_(steps|room_events)_v[0-9]+$'
    loop
        execute format('grant select, insert on %I to runroom_projector', name);
    end loop;
    -- By the trigger of proj_runs_vN, which runs as whoever inserts there.
    for name in
        select tablename from pg_tables where schemaname = 'public' and tablename ~ '^proj_run_tags_v[0-9]+$'
    loop
        execute format('grant insert on %I to runroom_projector', name);
    end loop;
end
$$;
