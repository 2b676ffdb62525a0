-- Runs by tag, newest first, for lists that are filtered by tags
-- depends: 0005-tag-statistics
-- migrate: apply

-- proj_run_tags_vN belongs to proj_runs_vN as an index does: this is what keeps it, whoever inserts, and by COPY too.
-- Neither the tags of a run nor the other columns ever change.
create function proj_run_tags_add() returns trigger language plpgsql as $$
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

-- Every version that workers write to or may write to again. One that is being filled gets its tags when it is full.
-- The trigger comes first: it waits for those who are writing and lets nobody write until the tags are complete.
do $$
declare
    n integer;
begin
    for n in select version from projector_versions where projection = 'runs' and state <> 'building' order by version
    loop
        execute format(
            'create table proj_run_tags_v%1$s (
                workspace_id text collate "C" not null,
                tag text collate "C" not null,
                created_at timestamptz not null,
                run_id text collate "C" not null,
                room_id text collate "C" not null
            );
            create trigger proj_runs_v%1$s_tags after insert on proj_runs_v%1$s
            referencing new table as added for each statement execute function proj_run_tags_add();
            insert into proj_run_tags_v%1$s (workspace_id, tag, created_at, run_id, room_id)
            select r.workspace_id, t.tag, r.created_at, r.run_id, r.room_id
            from proj_runs_v%1$s as r cross join unnest(r.tags) with ordinality as t (tag, place)
            where t.place = array_position(r.tags, t.tag);
            create index proj_run_tags_v%1$s_newest
            on proj_run_tags_v%1$s (workspace_id, tag, created_at desc, run_id desc) include (room_id);
            alter table proj_runs_v%1$s alter column tags set statistics -1;
            drop index if exists proj_runs_v%1$s_tags',
            n
        );
    end loop;
    select version into strict n from projector_versions where projection = 'runs' and state = 'active';
    execute format('create view proj_run_tags as select * from proj_run_tags_v%s', n);
end
$$;

-- migrate: rollback

drop view proj_run_tags;
do $$
declare
    n integer;
begin
    for n in select version from projector_versions where projection = 'runs' and state <> 'building' order by version
    loop
        execute format(
            'drop trigger proj_runs_v%1$s_tags on proj_runs_v%1$s;
            drop table proj_run_tags_v%1$s;
            alter table proj_runs_v%1$s alter column tags set statistics 1000;
            create index proj_runs_v%1$s_tags on proj_runs_v%1$s using gin (tags)',
            n
        );
    end loop;
end
$$;
drop function proj_run_tags_add();
