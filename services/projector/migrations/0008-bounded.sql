-- Tags in a time that grows with their number, and checkpoints that are positions
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

-- Nothing can be read from before the stream's first position.
update projector_leases set stream_position = 0 where stream_position < 0;
alter table projector_leases add constraint projector_leases_position check (stream_position >= 0);

-- migrate: rollback

alter table projector_leases drop constraint projector_leases_position;
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
