-- The database psql is connected to, and all that is in it, belong to runroom_migrate, and nobody else may do anything
-- that is not granted by name. What an earlier release made as another owner is handed over.
-- A superuser does this in a database of which others are the owner: no name is to mean what that one has made.
set search_path = pg_catalog, pg_temp;
set lock_timeout = '10s';

-- Each by itself: a table that is used is waited for, and no other with it.
select format('alter table %s owner to runroom_migrate', c.oid::regclass)
from pg_class as c
where
    c.relnamespace = 'public'::regnamespace and c.relkind in ('r', 'p', 'v', 'm')
    and c.relowner <> 'runroom_migrate'::regrole
    and not exists (select from pg_depend as d where d.objid = c.oid and d.deptype = 'e')
\gexec

-- No two at once, who would change the same rows: the second waits for this lock, until databases.sql has granted what it
-- grants. Of all that excludes itself it is the weakest: stronger ones wait for what anybody may have, by PREPARE.
begin;
lock table pg_database in share update exclusive mode;
alter database :"DBNAME" owner to runroom_migrate;
revoke all on database :"DBNAME" from public;

-- Where there is something to be revoked: migrations change the same row.
select distinct 'revoke all on schema public from public'
from pg_namespace as n, aclexplode(coalesce(n.nspacl, acldefault('n', n.nspowner))) as a
where n.nspname = 'public' and a.grantee = 0
union all
select format('alter routine %s owner to runroom_migrate', p.oid::regprocedure)
from pg_proc as p
where
    p.pronamespace = 'public'::regnamespace and p.proowner <> 'runroom_migrate'::regrole
    and not exists (select from pg_depend as d where d.objid = p.oid and d.deptype = 'e')
\gexec

revoke execute on all routines in schema public from public;
alter default privileges for role runroom_migrate revoke execute on routines from public;

-- Triggers run for whoever changes a table; blocks of code are for migrations alone: by one of fifty bytes a session writes
-- on and on, to the log if nowhere else.
revoke usage on language plpgsql from public;
grant usage on language plpgsql to runroom_migrate;

-- What PostgreSQL lets everybody do in any database: write large objects, write to the log without writing to a table, in a
-- transaction that only reads too, write a file for each snapshot that others are to share, use up numbers of transactions,
-- of which the server has so many, and take advisory locks, by which the relay's leader and migrations are alone. Who takes
-- one and keeps it has stopped them for good. And, since 18, say what a table's statistics are to whoever may maintain it:
-- command vacuums one. The owner shares snapshots, as pg_dump does in parallel, and brings statistics back.
select format('revoke execute on function %s from public', p.oid::regprocedure)
from pg_proc as p
where
    p.pronamespace = 'pg_catalog'::regnamespace
    and p.proname ~ (
        '^(pg_(try_)?advisory_|lo_|lowrite$|loread$|pg_logical_emit_message$|pg_export_snapshot$|pg_current_xact_id$'
        '|txid_current$|pg_(restore|clear)_[a-z]+_stats$)'
    )
union all
select format('grant execute on function %s to runroom_migrate', p.oid::regprocedure)
from pg_proc as p
where
    p.pronamespace = 'pg_catalog'::regnamespace
    and p.proname ~ '^(pg_(try_)?advisory_|pg_export_snapshot$|pg_(restore|clear)_[a-z]+_stats$)'
\gexec
