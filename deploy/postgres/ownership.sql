-- The database psql is connected to, and all that is in it, belong to runroom_migrate, and nobody else may do anything
-- that is not granted by name. What an earlier release made as another owner is handed over.
-- A superuser does this in a database of which others are the owner: no name is to mean what that one has made.
set search_path = pg_catalog, pg_temp;
set lock_timeout = '10s';

-- Each by itself: a table that is used is waited for, and no other with it.
select format('do %L', format(:'change', format('alter table %s owner to runroom_migrate', c.oid::regclass)))
from pg_class as c
where
    c.relnamespace = 'public'::regnamespace and c.relkind in ('r', 'p', 'v', 'm')
    and c.relowner <> 'runroom_migrate'::regrole
    and not exists (select from pg_depend as d where d.objid = c.oid and d.deptype = 'e')
\gexec

-- No two at once, who would change the same rows: the second waits for this lock, to the end of the transaction, which is in
-- databases.sql. Of all that excludes itself it is the weakest: stronger ones wait for what anybody may have, by PREPARE.
begin;
lock table pg_database in share update exclusive mode;

-- What is to be said is asked three times, each when the one before is done: a new owner takes the place of the old one in what
-- either has been given, and a REVOKE takes what was handed on with the right to do so.
select format('do %L', format(:'change', statement))
from (
    select format('alter database %I owner to runroom_migrate', datname) as statement
    from pg_database
    where datname = current_database() and datdba <> 'runroom_migrate'::regrole
    union all
    select format('alter routine %s owner to runroom_migrate', p.oid::regprocedure)
    from pg_proc as p
    where
        p.pronamespace = 'public'::regnamespace and p.proowner <> 'runroom_migrate'::regrole
        and not exists (select from pg_depend as d where d.objid = p.oid and d.deptype = 'e')
) as needed
\gexec

select $$
    values
    ('event_store', 'runroom_command'), ('event_store', 'runroom_projector'),
    ('projections', 'runroom_projector'), ('projections', 'runroom_query')
$$ as connects \gset

with of_database as (
    select d.datname, d.datdba as owner, a.*
    from pg_database as d, aclexplode(coalesce(d.datacl, acldefault('d', d.datdba))) as a
    where d.datname = current_database()
),
of_services as (
    select *
    from of_database
    where grantee in (0, 'runroom_command'::regrole, 'runroom_projector'::regrole, 'runroom_query'::regrole)
)
select format('do %L', format(:'change', statement))
from (
    -- Others may hand on what they were given with that option. It goes with the option, and nobody else takes it back.
    select distinct format('revoke grant option for all on database %I from %s cascade', datname, grantor::regrole) as statement
    from of_database
    where grantor <> owner and exists (select from of_services where grantor <> owner)
    union all
    select distinct format('revoke all on database %I from public', datname)
    from of_services
    where grantee = 0
    union all
    select distinct format('revoke all on database %I from %s cascade', datname, grantee::regrole)
    from of_services
    where
        grantee <> 0 and (
            is_grantable or privilege_type <> 'CONNECT'
            or (datname, grantee::regrole::text) not in (:connects)
        )
    union all
    select distinct 'revoke all on schema public from public'
    from pg_namespace as n, aclexplode(coalesce(n.nspacl, acldefault('n', n.nspowner))) as a
    where n.nspname = 'public' and a.grantee = 0
    union all
    select 'alter default privileges for role runroom_migrate revoke execute on routines from public'
    where not exists (
        select from pg_default_acl as d
        where
            d.defaclrole = 'runroom_migrate'::regrole and d.defaclnamespace = 0 and d.defaclobjtype = 'f'
            and not exists (select from aclexplode(d.defaclacl) as a where a.grantee = 0)
    )
    union all
    -- Triggers run for whoever changes a table; blocks of code are for migrations alone: by one of fifty bytes a session writes
    -- on and on, to the log if nowhere else.
    select distinct 'revoke usage on language plpgsql from public'
    from pg_language as l, aclexplode(coalesce(l.lanacl, acldefault('l', l.lanowner))) as a
    where l.lanname = 'plpgsql' and a.grantee = 0
    union all
    -- What is in the schema of ours, and what PostgreSQL lets everybody do in any database: write large objects, write to the
    -- log without writing to a table, in a transaction that only reads too, write a file for each snapshot that others are to
    -- share, use up numbers of transactions, of which the server has so many, and take advisory locks, by which the relay's
    -- leader and migrations are alone. Who takes one and keeps it has stopped them for good. And, since 18, say what a table's
    -- statistics are to whoever may maintain it: command vacuums one.
    select distinct format('revoke execute on routine %s from public', p.oid::regprocedure)
    from pg_proc as p, aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) as a
    where
        a.grantee = 0
        and (
            p.pronamespace = 'public'::regnamespace
            or p.pronamespace = 'pg_catalog'::regnamespace
            and p.proname ~ (
                '^(pg_(try_)?advisory_|lo_|lowrite$|loread$|pg_logical_emit_message$|pg_export_snapshot$|pg_current_xact_id$'
                '|txid_current$|pg_(restore|clear)_[a-z]+_stats$)'
            )
        )
) as needed
\gexec

select format('do %L', format(:'change', statement))
from (
    select 'grant usage on language plpgsql to runroom_migrate' as statement
    where not exists (
        select from pg_language as l, aclexplode(l.lanacl) as a
        where l.lanname = 'plpgsql' and a.grantee = 'runroom_migrate'::regrole
    )
    union all
    -- The owner shares snapshots, as pg_dump does in parallel, and brings statistics back.
    select format('grant execute on function %s to runroom_migrate', p.oid::regprocedure)
    from pg_proc as p
    where
        p.pronamespace = 'pg_catalog'::regnamespace
        and p.proname ~ '^(pg_(try_)?advisory_|pg_export_snapshot$|pg_(restore|clear)_[a-z]+_stats$)'
        and not exists (select from aclexplode(p.proacl) as a where a.grantee = 'runroom_migrate'::regrole)
    union all
    -- By the lock of that function the relay has one leader.
    select 'grant execute on function pg_try_advisory_lock(bigint) to runroom_command'
    from pg_proc as p
    where
        p.oid = 'pg_try_advisory_lock(bigint)'::regprocedure and current_database() = 'event_store'
        and not exists (select from aclexplode(p.proacl) as a where a.grantee = 'runroom_command'::regrole)
    union all
    select format('grant connect on database %I to %I', d.datname, wanted.role)
    from pg_database as d
    inner join (:connects) as wanted (database, role) on wanted.database = d.datname
    where
        d.datname = current_database()
        and not exists (
            select from aclexplode(d.datacl) as a
            where a.grantee = wanted.role::regrole and a.grantor = d.datdba and a.privilege_type = 'CONNECT'
        )
) as needed
\gexec
