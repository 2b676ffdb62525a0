-- Tags in a time that grows with their number, however many there are
-- depends: 0007-page-bytes
-- migrate: apply

-- Each tag once, as before. To look for its first place went through all the others: half a minute for 40,000.
create or replace function proj_run_tags_add() returns trigger language plpgsql as $$
begin
    execute format(
        'insert into %I.%I (workspace_id, tag, created_at, run_id, room_id)
        select r.workspace_id, t.tag, r.created_at, r.run_id, r.room_id
        from added as r cross join lateral (select distinct u.tag from unnest(r.tags) as u (tag)) as t',
        tg_table_schema, replace(tg_table_name, 'proj_runs_', 'proj_run_tags_')
    );
    return null;
end
$$;

-- migrate: rollback

create or replace function proj_run_tags_add() returns trigger language plpgsql as $$
begin
    execute format(
        'insert into %I.%I (workspace_id, tag, created_at, run_id, room_id)
        select r.workspace_id, t.tag, r.created_at, r.run_id, r.room_id
        from added as r cross join unnest(r.tags) with ordinality as t (tag, place)
        where t.place = array_position(r.tags, t.tag)',
        tg_table_schema, replace(tg_table_name, 'proj_runs_', 'proj_run_tags_')
    );
    return null;
end
$$;
