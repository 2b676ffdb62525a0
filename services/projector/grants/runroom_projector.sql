-- Projectors in their database: what workers, `verify` and `parked` do. Tables are made and dropped by their owner.
values
('schema public', 'usage'),
('table projector_workers', 'select, insert, update (projections, expires_at), delete'),
('table projector_leases', 'select, insert, update (owner, epoch, stream_identity, stream_position)'),
('table proj_rooms', 'select, insert, update (applied_seq, updated_at)'),
('table projector_parked', 'select, insert, update (error, attempts, tried_at, wanted, skipped_at), delete'),
('table projector_versions', 'select'),

-- What is read, for `verify`.
('table proj_runs', 'select'),
('table proj_steps', 'select'),
('table proj_run_tags', 'select'),
('table proj_room_events', 'select'),
('table proj_applied', 'select')

-- The tables of every version there is. A rebuild applies this again when it has made another.
--
-- What a run is and where it is stays; and who may update a whole table may lock it against everybody who reads. The other
-- columns are not named: another release's version may have others.
union all
select
    format('table %I', c.relname),
    format('select, insert, update (%s)', string_agg(quote_ident(a.attname), ', '))
from pg_class as c inner join pg_attribute as a on a.attrelid = c.oid
where
    c.relnamespace = 'public'::regnamespace and c.relkind = 'r' and c.relname ~ '^proj_runs_v[0-9]+$'
    and a.attnum > 0 and not a.attisdropped
    and a.attname <> all (
        '{run_id, workspace_id, room_id, thread_id, title, goal, input, tags, created_at, correlation_id}'
    )
group by c.relname
union all
select format('table %I', tablename), 'select, insert'
from pg_tables
where schemaname = 'public' and tablename ~ '^proj_(steps|room_events)_v[0-9]+$'
union all
-- By the trigger of proj_runs_vN, which runs as whoever inserts there.
select format('table %I', tablename), 'insert'
from pg_tables
where schemaname = 'public' and tablename ~ '^proj_run_tags_v[0-9]+$'
